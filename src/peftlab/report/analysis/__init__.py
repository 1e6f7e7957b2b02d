"""From the runs of a study to what can be said of them: groups, comparisons, and their statistics."""
