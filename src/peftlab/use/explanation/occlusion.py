"""Occlusion: what the logit loses when a word is replaced (Zeiler and Fergus 2014; Li, Monroe and Jurafsky 2016)."""

from __future__ import annotations

import numpy as np

from peftlab.use.explanation.attribution import Attribution, Settings
from peftlab.use.explanation.subject import Subject


def explain(subject: Subject, settings: Settings) -> Attribution:
    """Return the logit of the row less that without each word."""
    number = len(subject.words)
    return Attribution(subject.full - subject.value(~np.eye(number, dtype=bool)))
