"""What does a text add to the columns beside it? Out-of-fold scores of texts in a model of a table."""
