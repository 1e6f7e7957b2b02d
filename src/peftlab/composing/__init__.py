"""What configuration do options and overrides stand for? Hydra composes it, and does nothing else. No torch."""
