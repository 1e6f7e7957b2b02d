"""How a run gets its unlabelled texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from peftlab.data.augmentation.augmentation import Augmentation
from peftlab.data.augmentation.augmenter import Augmenter
from peftlab.data.module import DataModule
from peftlab.semi_supervised.companions import Companions
from peftlab.semi_supervised.method import SemiSupervised
from peftlab.semi_supervised.unlabelled import read_unlabelled

SECTION = "semi_supervised"
"""The section of the record."""


def without_null_views(config: dict[str, Any]) -> None:
    """Leave out of `config` the augmentations of unlabelled texts that are switched off."""
    config["semi"] = semi = config.get("semi") or None
    if isinstance(semi, dict):
        for view in ("weak", "strong"):
            if isinstance(own := semi.get(view, {}) or {}, dict):
                semi[view] = {name: node for name, node in own.items() if node is not None}


def join(semi: SemiSupervised | None, data: DataModule, steps: int, embeddings: Callable[[], np.ndarray]) -> None:
    """Give a method its unlabelled texts; do nothing where there is none, or where it is off.

    Args:
        semi: the method; None: the run has none.
        data: the loaded data.
        steps: the steps of the run.
        embeddings: returns the model's input embeddings, shape (vocabulary, features).

    Raises:
        ConfigError: there are no such texts, the method does not suit the task, or an augmentation changes nothing.
        DataError: a file cannot be read.
    """
    if semi is None or semi.off is not None:
        return
    texts = read_unlabelled(data, semi.unlabelled, semi.at_most)

    def augmenter(view: str, chosen: Mapping[str, Augmentation]) -> Augmenter:
        named = {f"{view}.{name}": each for name, each in chosen.items() if each.share > 0}
        made = Augmenter(named, data.task, data.processor, data.spec.limits, data.seed, embeddings, "semi")
        if named:
            made.prepare(texts.examples)
        return made

    weak, strong = (augmenter(view, getattr(semi, view)) for view in ("weak", "strong"))
    semi.begin(Companions(texts, semi.mu, data, weak, strong), max(1, steps - semi.start_step + 1))
    semi.facts = {
        "texts": len(texts.examples),
        "held_out": texts.held_out,
        "labels_hidden": texts.hidden is not None,
        "edited": weak.counts | strong.counts,
    }


def record_unlabelled(semi: SemiSupervised | None, extend: Callable[[str, Mapping[str, Any]], None]) -> None:
    """Have what a method does recorded from now on, by `RunRecord.extend`; do nothing where there is none."""
    if semi is not None and semi.facts:
        semi.keep = partial(extend, SECTION)
        semi.keep(semi.facts)
