"""How do the shares of topics and opinions move, and which move is news? Corrected shares, control charts, alerts."""
