"""Which words does a fine-tuned model decide by? Attributions of a logit to the words of a text, and their test."""
