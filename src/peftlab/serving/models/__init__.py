"""Which runs answer? Any of any method, by name, over as few backbones as they need: their rows share a batch."""
