"""What does a text add to the columns beside it, and may a decision rest on it? Scorecards of texts and tables."""
