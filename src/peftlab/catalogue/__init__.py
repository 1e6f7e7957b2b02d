"""What there is to choose from, as tables: methods, and pretrained models."""
