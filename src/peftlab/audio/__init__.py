"""What does a model hear of a recording? Files to samples and spectrograms, and the texts that are compared."""
