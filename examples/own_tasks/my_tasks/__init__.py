"""Tasks of one's own on top of peftlab, one file each."""
