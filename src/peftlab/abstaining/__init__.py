"""When does a model leave an answer to somebody else? Scores of what is out of scope, and conformal sets."""
