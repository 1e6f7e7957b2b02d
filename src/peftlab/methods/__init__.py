"""Ways to fine-tune, one file a family."""
