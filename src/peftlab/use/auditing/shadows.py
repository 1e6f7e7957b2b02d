"""Shadow models: runs of the same configuration on random halves of the same examples."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.devices.process_state import restored
from peftlab.errors import UserError
from peftlab.one_run import run as train
from peftlab.use.finished import load

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

log = logging.getLogger("peftlab")

FEWEST = 6
"""Shadow models below which nothing is known of how models vary, with an example and without: without one pair of them,
which is attacked with the help of the others, two of each kind are left."""


def shadows_of(run: FinishedRun, number: int) -> list[FinishedRun]:
    """Return shadow models of `run`, trained as far as they are not finished yet; two that follow share no example.

    They differ from the run in ``budget.half`` and the seed; where the run has a sample of the training examples, they
    have halves of a sample of twice that size, which contains it. They lie in ``sweeps/audit-ID`` and are runs like any
    other: found if they are finished, resumed if they are not. Nothing goes to a tracker.

    Args:
        run: the run.
        number: of shadow models, even.

    Raises:
        UserError: the number is too small or odd, or a run fails.
    """
    if number < FEWEST or number % 2:
        raise UserError(f"--shadows {number}: an even number from {FEWEST} on; two and two share the examples")
    folder = Path("sweeps") / f"audit-{run.record.data['run_id']}"
    found = []
    for shadow in range(number):
        config = run.folder.read_config()
        tested = config["data"].get("fold") is not None  # a fold that is held out has to be
        config["budget"] = halved(config["budget"], shadow) | {"test": tested}
        config |= {"seed": config["seed"] + 1 + shadow, "logger": {}, "run_dir": None, "sweep_dir": str(folder)}
        config["existing"] = "auto"
        log.info("shadow model %d of %d", shadow + 1, number)
        overrides = [f"budget.half={config['budget']['half']}", f"seed={config['seed']}"]
        with restored():
            record = train(config, ["peftlab", "audit"], overrides)
        found.append(load(record.folder, run.folder.allow))
    return found


def halved(budget: Mapping[str, Any], shadow: int) -> dict[str, Any]:
    """Return the budget of a shadow model: another half than that of the attacked run, which may have one itself."""
    own = budget.get("half")
    if own is not None:
        return {**budget, "half": 2 * (own // 2 + 1) + shadow}
    sizes = {key: _doubled(budget.get(key)) for key in ("train_examples", "per_class")}
    stratified = budget.get("stratified", False) and sizes["train_examples"] is not None
    return {**budget, **sizes, "stratified": stratified, "half": shadow}


def _doubled(size: float | None) -> float | None:
    """Return twice a number, or a share, of examples; None: all of them."""
    return None if size is None or 0.5 <= size < 1 else 2 * size
