"""How does one model learn from data that stay where they are? Clients, rounds, and averages of their changes."""
