"""How does the same training run faster? Each module says whether its results differ, and how."""
