"""Which items come next for a user, and how good are recommenders that learn no text? Interactions, baselines, ranks.

No torch: the tasks on interactions read it, and reports can.
"""
