"""What acts on the training loop, one file a callback."""
