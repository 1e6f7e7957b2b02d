"""Whom does a finished model fail? Groups of its examples, gaps between them, and names swapped in. Without torch where kept predictions suffice."""
