"""What does a run tell of its training examples? Membership inference, and the epsilon that it rules out."""
