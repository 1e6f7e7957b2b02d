"""Which weights of a model are trained, and how are they saved? One file per family of fine-tuning methods."""
