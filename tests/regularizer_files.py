"""The regularisers of ``conf/regularizer/``, and what those need that refer to files or to a finished run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from peftlab.composing.compose import conf_dir
from peftlab.one_run import run

REGULARIZERS = sorted(path.stem for path in (conf_dir() / "regularizer").glob("*.yaml"))
TERMS = "people | places\nmarie | paris\nada | warsaw\nalan | rome\n"
"""Groups of terms in the texts of `tests.conftest.TEMPLATES`."""


def teach(cfg: DictConfig, folder: Path) -> None:
    """Do the run of a configuration without its regularisers, in ``run`` in a folder."""
    teacher = copy.deepcopy(cfg)
    teacher.regularizer, teacher.seed, teacher.run_dir = {}, 1, str(folder / "run")
    run(teacher)


def refer(cfg: DictConfig, folder: Path, taught: Callable[[], Path], per_class: int | None = 9) -> None:
    """Have the regularisers of a configuration refer to terms, written to a folder, and to the run in a taught one.

    Of its examples, so many a class are remembered; None: all, for tasks without classes.
    """
    (folder / "terms.txt").write_text(TERMS)
    for each in cfg.regularizer.values():
        if "terms" in each:
            each.terms = str(folder / "terms.txt")
        for key in {"teacher", "previous"} & each.keys():
            each[key] = str(taught() / "run")
    if "der" in cfg.regularizer:  # what it keeps the logits of
        memory = [{"run": str(taught() / "run"), "per_class": per_class}]
        OmegaConf.update(cfg, "data.replay", memory, force_add=True)


def only(cfg: DictConfig, options: Iterable[str]) -> DictConfig:
    """Return the configuration with some of its regularisers."""
    cfg = copy.deepcopy(cfg)
    cfg.regularizer = {option: cfg.regularizer[option] for option in options}
    if "der" not in cfg.regularizer and "replay" in cfg.data:
        cfg.data.replay = None
    return cfg
