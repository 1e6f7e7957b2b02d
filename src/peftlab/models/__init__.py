"""A pretrained model: its files, its parts, the head and the method that are added to it."""
