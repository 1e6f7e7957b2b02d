"""Which examples of a data set may be wrong or of no use, and what a run does about them?"""
