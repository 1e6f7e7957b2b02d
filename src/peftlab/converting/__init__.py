"""Pretrained models in formats of other programs, converted to the files that transformers reads. No torch."""
