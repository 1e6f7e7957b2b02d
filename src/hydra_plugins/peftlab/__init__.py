"""Hydra finds its launchers and sweepers here; what they do is in `peftlab.sweep`."""
