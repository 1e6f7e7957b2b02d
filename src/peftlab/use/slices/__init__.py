"""On which parts of its data does a finished run fail? Its score on each, an interval, and how the rest does.

Slicers that ask what the run was trained on read its data; all others need its predictions alone, and no torch.
"""
