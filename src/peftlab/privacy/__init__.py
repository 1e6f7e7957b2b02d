"""How little may a model tell of one example? Differential privacy: clipped gradients, noise, and what it costs."""
