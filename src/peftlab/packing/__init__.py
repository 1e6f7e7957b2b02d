"""Several runs in one process on one device, which compute the gradients of their steps together."""
