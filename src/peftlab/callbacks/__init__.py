"""What else happens as training proceeds? Lightning callbacks that a configuration may choose, one per file."""
