"""What is used of libraries beyond what they promise to keep? Their privates, one function for each, a file a library.

No other module touches a private of somebody else's. ``tests/unit/test_seams.py`` checks that, and calls every function
here on a real object, so that a new version of a library that changes one of them fails there and not in a run.
"""
