"""What do rules say that were written in place of labels? Labelling functions, and how far to trust each. No torch."""

from peftlab.weak_supervision.functions import labelling_function

__all__ = ["labelling_function"]
