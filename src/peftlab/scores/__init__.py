"""How good are the answers? One file a scorer: what each example counts for, and what the sums say. No torch."""
