"""What do rules say that were written in place of labels? Labelling functions, and how far each is to be trusted. No torch."""
