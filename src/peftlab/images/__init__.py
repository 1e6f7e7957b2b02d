"""What does a model see of a picture? Files to pixels, and seeded changes of training pictures."""
