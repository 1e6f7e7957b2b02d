"""Which configuration do options and overrides make? Hydra composes it, and does nothing else. No torch."""
