"""A project of one's own on top of peftlab."""
