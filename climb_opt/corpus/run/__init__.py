"""Who does the work of a build, and where its stages keep what they made."""
