"""The differential privacy of runs, as their records state it, alone and of several together. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from peftlab.runs.record import RunRecord

SECTION = "privacy"
"""The section of the record."""
_ORDERS = (*range(2, 64), *(2**n for n in range(6, 13)))


def guarantee(record: RunRecord) -> str | None:
    """Return what a private run promises, as a sentence; None: it promises nothing."""
    section: Any = record.extensions.get(SECTION)
    if not _is_whole(section):
        return None
    return (
        f"epsilon {section['epsilon']:.3g} at delta {section['delta']:.2g} for each {section['unit']} of the training "
        f"split (noise multiplier {section['noise_multiplier']:.4g}, norm {section['max_grad_norm']:g}, "
        f"{section['steps']} steps of Poisson samples; {section['accountant']})"
    )


def together(records: Iterable[RunRecord]) -> Iterator[str]:
    """Yield what several runs on the same training split spend together, a sentence for each split of private runs."""
    of_split: dict[str, list[RunRecord]] = {}
    for record in records:
        digest = record.data["identity"]["data_sha256"].get("train")
        of_split.setdefault(str(digest), []).append(record)
    for runs in of_split.values():
        private = [run.extensions[SECTION] for run in runs if _is_whole(run.extensions.get(SECTION))]
        if not private:
            continue
        name, rest = runs[0].data["data"]["name"], len(runs) - len(private)
        if len(private) > 1:
            epsilon, delta = composed(private)
            yield (
                f"the {len(private)} private trainings on {name} together spend epsilon {epsilon:.3g} at delta "
                f"{delta:.2g} (by Rényi divergences, an upper bound): that is the bound for whoever sees them all, and "
                "their scores."
            )
        if rest:
            yield f"{rest} other trainings on {name} promise no privacy: whoever sees their models too has no bound."


def composed(sections: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    """Return an epsilon and a delta of several private trainings on the same data.

    It is that of their Rényi divergences, which add up (Mironov 2017; Mironov, Talwar and Zhang 2019, section 3.3), at
    the smallest of their deltas.
    """
    sections = list(sections)
    delta = min(float(each["delta"]) for each in sections)
    best = math.inf
    for order in _ORDERS:
        divergence = sum(
            each["steps"] * _divergence(order, each["noise_multiplier"], each["sample_rate"]) for each in sections
        )
        # Canonne, Kamath and Steinke 2020, proposition 12
        best = min(best, divergence + math.log1p(-1 / order) - math.log(delta * order) / (order - 1))
    return max(0.0, best), delta


def _divergence(order: int, sigma: float, rate: float) -> float:
    """Return the Rényi divergence of a step, of a whole order."""
    if rate >= 1:
        return order / (2 * sigma**2)
    terms = [
        math.lgamma(order + 1)
        - math.lgamma(k + 1)
        - math.lgamma(order - k + 1)
        + k * math.log(rate)
        + (order - k) * math.log1p(-rate)
        + (k * k - k) / (2 * sigma**2)
        for k in range(order + 1)
    ]
    largest = max(terms)
    return (largest + math.log(sum(math.exp(term - largest) for term in terms))) / (order - 1)


def _is_whole(section: Any) -> bool:
    """Return whether a section has the numbers that are shown, each a number: a record may come from anybody."""
    keys = ("epsilon", "delta", "noise_multiplier", "max_grad_norm", "sample_rate", "steps")
    return (
        isinstance(section, dict)
        and all(isinstance(section.get(key), int | float) and 0 < section[key] < math.inf for key in keys)
        and section["delta"] < 1
        and isinstance(section.get("unit"), str)
        and isinstance(section.get("accountant"), str)
    )
