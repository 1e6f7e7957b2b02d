"""What do rules say that stand in place of labels? Labelling functions, and how far each is to be trusted."""
