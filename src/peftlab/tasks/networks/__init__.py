"""Networks that tasks train: the heads that transformers has for them, and our own around an encoder."""
