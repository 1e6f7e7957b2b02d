"""peftlab: credible, cheap fine-tuning of pretrained transformers."""
