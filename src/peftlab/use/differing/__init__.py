"""What did fine-tuning change? Weights, hidden states, attention and answers, against the pretrained model or a run."""
