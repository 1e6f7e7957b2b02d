"""What do rules say that stand in place of labels? Labelling functions, and how far each is to be trusted."""

from peftlab.weak_supervision.functions import labelling_function

__all__ = ["labelling_function"]
