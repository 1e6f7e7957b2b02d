"""Rows: makes an example of a JSON object or of a record of a table, one reader for each kind of example."""
