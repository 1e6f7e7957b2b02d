"""Who may ask a server, and how much? Keys, tokens, limits, and what is refused at the door. Without torch."""
