"""What a person looks at: figures, tables, one HTML page."""
