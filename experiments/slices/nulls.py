"""How often is a slice said to differ that does not, and how often is the stated detectable difference found?

    python experiments/slices/nulls.py [SIMULATIONS]

Entities in documents, whose difficulty varies; a slice holds each entity with probability .3, or whole documents.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np

from peftlab.scores.entity_scores import EntityScores
from peftlab.use.slices.measure import Settings, _found
from peftlab.use.slices.subject import Slice

SCORER = EntityScores(["X"])
CORRECT, MISSED, SPURIOUS = (SCORER.cell(*pair) for pair in (("X", "X"), ("X", None), (None, "X")))


def simulated(random: np.random.Generator, documents: int, entities: int, whole: bool, apart: float):
    """Return what a slice of simulated answers, one of each document, gives."""
    counts, inside = (np.zeros((documents, SCORER.width), np.int64) for _ in range(2))
    for document in range(documents):
        wrong = np.clip(random.normal(0.2, 0.1), 0.02, 0.6)
        chosen = np.full(entities, random.random() < 0.3) if whole else random.random(entities) < 0.3
        missed = random.random(entities) < wrong + apart * chosen
        spurious = random.random(entities) < 0.1
        for flags, cell in ((missed, MISSED), (~missed, CORRECT), (spurious, SPURIOUS)):
            counts[document, cell] = flags.sum()
            inside[document, cell] = (flags & chosen).sum()
    subject = SimpleNamespace(scorer=SCORER, counts=counts, answers=[None] * documents)
    one = Slice("slice", inside, int(inside[:, [CORRECT, MISSED]].sum()), "entities")
    return _found("slice", one, subject, np.arange(documents), "entity_f1", Settings(), 1)


def main(simulations: int) -> None:
    """Print a line for each design."""
    print("design | claimed though equal | interval covers 0 | score's interval covers | detectable | found there")
    for documents, entities, whole in ((100, 10, False), (30, 10, False), (100, 10, True), (300, 1, True)):
        random = np.random.default_rng(0)
        equal = [simulated(random, documents, entities, whole, 0.0) for _ in range(simulations)]
        claimed = np.mean([one.p <= 0.05 for one in equal])
        covers = np.mean([one.difference.low <= 0 <= one.difference.high for one in equal])
        truth = np.mean([one.score.value for one in equal])
        covered = np.mean([one.score.low <= truth <= one.score.high for one in equal])
        detectable = float(np.mean([one.detectable for one in equal]))
        # F1 falls by about half of what recall falls by, of as many spurious entities
        shift = detectable / 0.62
        apart = [simulated(random, documents, entities, whole, shift) for _ in range(simulations)]
        real = np.mean([one.difference.value for one in apart])
        found = np.mean([one.p <= 0.05 for one in apart])
        kind = "whole documents" if whole else "in each document"
        print(
            f"{documents} x {entities}, {kind} | {claimed:.3f} | {covers:.3f} | {covered:.3f} | {detectable:.4f} | "
            f"{found:.2f} at {real:+.4f}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
