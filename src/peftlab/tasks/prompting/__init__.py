"""How does a language model classify? Templates, words that stand for labels, calibration and demonstrations."""
