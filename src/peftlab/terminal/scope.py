"""What a run's decisions on its scope do, as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from peftlab.terminal.output import table


def scope_lines(section: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines on a section ``out_of_scope`` of a record."""
    for name in ("validation", "test"):
        if (inside := section.get(name)) is not None:
            of_accepted = inside["accuracy_of_accepted"]
            among = "" if of_accepted is None else f", {of_accepted:.4f} of those accepted"
            yield f"in scope, {name}: {inside['accepted']:.1%} accepted; accuracy {inside['accuracy']:.4f}{among}"
    if outside := section.get("outside"):
        head = ["out of scope", "texts", "share", "rejected", "AUROC", "FPR95", "AUPR"]
        rows = [
            [
                *(name, f"{section['texts'][name]:,}", f"{one['share']:.1%}", f"{one['rejected']:.1%}"),
                *(f"{one[score]:.4f}" for score in ("auroc", "fpr95", "aupr")),
            ]
            for name, one in outside.items()
        ]
        yield table([head, *rows])
    if (sets := section.get("conformal")) is not None:
        low, high = sets["interval"]
        yield (
            f"conformal sets: {sets['coverage']:.1%} hold the right label (95 % interval {low:.1%} to {high:.1%}; "
            f"asked for {1 - sets['alpha']:.0%}), mean size {sets['mean_size']:.2f}"
        )
    if (actions := section.get("actions")) is not None:
        yield ", ".join(f"{actions[name]:.1%} {name}" for name in ("answered", "asked", "escalated")) + (
            f"; mean cost {actions['cost']:.3f}" if "cost" in actions else ""
        )
    if (best := section.get("cheapest")) is not None:
        yield f"the cheapest threshold on validation, {best['threshold']:.4f}, costs {best['test']['cost']:.3f} on test"
