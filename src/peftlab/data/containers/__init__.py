"""Containers: the rows of a file of JSON lines, of a table or of a saved data set, whatever examples they hold."""
