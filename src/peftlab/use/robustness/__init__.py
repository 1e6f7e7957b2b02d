"""How does a run's model hold up when its inputs change? One file a kind of change; no training."""
