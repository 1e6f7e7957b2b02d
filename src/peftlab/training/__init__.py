"""What the run itself does on the way through a training: one file a callback that no configuration chooses."""
