"""What does a model forget that learns one thing after another? Streams of tasks, and the matrix of scores."""
