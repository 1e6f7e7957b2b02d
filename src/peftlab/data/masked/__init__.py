"""How is personal data kept out of a data set? Examples are masked as they are read, or files are written again."""
