"""What comes from other machines, and goes to them: the hub, the package index, messages. No torch."""
