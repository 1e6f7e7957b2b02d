"""How does a recording become what a model takes? Files to samples, samples to features, and changes for training."""
