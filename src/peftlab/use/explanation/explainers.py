"""The explainers by name."""

from __future__ import annotations

from collections.abc import Sequence

from peftlab.errors import UserError, did_you_mean
from peftlab.use.explanation import attention, gradients, occlusion, shapley
from peftlab.use.explanation.attribution import Explainer

EXPLAINERS: dict[str, Explainer] = {
    "ig": gradients.explain,
    "occlusion": occlusion.explain,
    "shapley": shapley.explain,
    "attention": attention.explain,
    "rollout": attention.rollout,
}
"""Integrated gradients, occlusion, Shapley values, the last layer's attention, and attention through all layers."""

OF_THE_MODEL = frozenset({"attention", "rollout"})
"""Those that need no baseline."""


def check_names(names: Sequence[str]) -> None:
    """Check that there are explainers of these names.

    Raises:
        UserError: there is none of one of them.
    """
    for name in names:
        if name not in EXPLAINERS:
            raise UserError(
                f"--how {name}: there is no such explainer.{did_you_mean(name, EXPLAINERS)} "
                f"Allowed: {', '.join(EXPLAINERS)}"
            )
