"""Which private names of libraries does peftlab use? Each has one function here, in the file of its library.

No other module uses a library's private names. ``tests/unit/test_seams.py`` checks that, and calls every function here
on a real object, so that a library version that changes one fails there and not in a run.
"""
