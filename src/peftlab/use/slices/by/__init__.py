"""By what are examples and entities divided? One file a slicer, found because it lies here."""
