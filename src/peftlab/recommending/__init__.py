"""What does somebody want next? Interactions, full ranking, and the simple recommenders to compare with."""
