"""Which devices does a run use, and how do several of them work together?"""
