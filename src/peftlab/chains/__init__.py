"""Which runs follow from each other? A folder of runs, each decided by those before it."""
