"""What may be concluded from scores? Intervals, tests, verdicts; every function names its source. NumPy and scipy."""
