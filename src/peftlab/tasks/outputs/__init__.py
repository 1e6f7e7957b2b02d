"""What tasks read off a model's outputs: distributions, spans, decisions, and the scorer's counts."""
