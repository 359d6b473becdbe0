"""What a report says: sections as data, and their figures."""
