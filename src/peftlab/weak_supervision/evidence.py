"""What there is to say of labelling functions: how much they cover, how they agree, and how often they are right."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from peftlab.report.statistics.bootstrap import jackknife_interval
from peftlab.report.statistics.measured import pseudo_values
from peftlab.scores.bio import entities
from peftlab.weak_supervision.label_model import COPIES, Generative, alike
from peftlab.weak_supervision.votes import ABSTAIN, Votes

_LEAST_VOTES, _STANDARD_ERRORS, _MORE_THAN_EXPECTED, _MOST = 10, 5, 1.25, 2 / 3


def of_functions(votes: Votes, model: Generative) -> list[dict[str, Any]]:
    """Return for each function what it votes for, and as shares of all rows its ``coverage``, its ``overlaps`` with
    other functions and its ``conflicts`` with them; as shares of its votes, the ``accuracy`` that the model has learnt,
    and that of ``chance``, which guesses these labels.
    """
    counts = votes.counts()
    facts = []
    for name, accuracy, said in zip(votes.names, model.accuracy, votes.table.T, strict=True):
        rows = np.flatnonzero(said != ABSTAIN)
        others, alike = counts[rows].sum(axis=1), counts[rows, said[rows]]
        labels = [votes.labels[label] for label in np.unique(said[rows])]
        facts.append(
            {
                "name": name,
                "labels": sorted({label[2:] for label in labels}) if votes.lengths is not None else labels,
                "votes": len(rows),
                "coverage": len(rows) / len(said),
                "overlaps": int((others > 1).sum()) / len(said),
                "conflicts": int((others > alike).sum()) / len(said),
                "accuracy": float(accuracy),
                "chance": float(model.balance[said[rows]].mean()) if len(rows) else None,
            }
        )
    return facts


def judged(votes: Votes, gold: np.ndarray) -> list[dict[str, Any]]:
    """Return for each function how many of its votes are ``right``, and the share with its interval, see `share`.

    Args:
        votes: on labelled rows.
        gold: positions in the labels, shape (rows,).
    """
    example = np.repeat(np.arange(len(votes.ends) - 1), np.diff(votes.ends))
    voted = votes.table.T != ABSTAIN
    return [share(said[own] == gold[own], example[own]) for said, own in zip(votes.table.T, voted, strict=True)]


def share(right: np.ndarray, example: np.ndarray | None = None) -> dict[str, Any]:
    """Return the share of right answers with a Wilson interval of 95 %.

    Args:
        right: whether each answer is, shape (answers,).
        example: the text or sentence of each, over which the interval is, for words of one are right or wrong
            together; None: each answer has its own.
    """
    if not len(right):
        return {"judged": 0, "right": 0, "share": None, "low": None, "high": None}
    values = right.astype(float)
    if example is not None and len(own := np.unique(example, return_inverse=True)[1]) > len(set(own.tolist())):
        counts = np.stack([np.bincount(own, right), np.bincount(own)], axis=1)
        values = pseudo_values(counts, lambda of: of[:, 0] / np.maximum(of[:, 1], 1))
    interval = jackknife_interval(values, bounded=True)
    return {
        "judged": len(right),
        "right": int(right.sum()),
        "share": float(right.mean()),
        "low": interval.low,
        "high": interval.high,
    }


def entity_scores(tags: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return precision, recall and F1 of whole entities in sentences."""
    both = [(set(entities(own)), set(entities(its))) for own, its in zip(tags, gold, strict=True)]
    right, said, there = (sum(map(len, sets)) for sets in ([a & b for a, b in both], *zip(*both, strict=True)))
    return {
        "precision": right / said if said else 0.0,
        "recall": right / there if there else 0.0,
        "f1": 2 * right / (said + there) if said + there else 0.0,
    }


def pairs(votes: Votes, model: Generative) -> list[dict[str, Any]]:
    """Return the pairs of functions that may not be independent, those that are most alike first.

    Each has the number of rows on which the two ``agree``, and that ``expected`` if they were independent given the
    true label; which share of the rows where either votes that is, ``alike``, and which of the votes of the one with
    fewer, ``repeated``. A model that believes two functions because they agree also expects that they do; so two that
    vote for one label are named, too, if most votes of one repeat the other's.
    """
    found, said_of, likeness = [], model.said, alike(votes)
    for one, other in itertools.combinations(range(len(votes.names)), 2):
        first, second = votes.table[:, one], votes.table[:, other]
        voted = [column[column != ABSTAIN] for column in (first, second)]
        agree = int(((first != ABSTAIN) & (first == second)).sum())
        if agree < _LEAST_VOTES:
            continue
        together = (said_of[one, :, :-1] * said_of[other, :, :-1]).sum(axis=1)
        expected = float(len(first) * (model.balance * together).sum())
        repeated, like = agree / min(map(len, voted)), float(likeness[one, other])
        is_more = agree > max(_MORE_THAN_EXPECTED * expected, expected + _STANDARD_ERRORS * expected**0.5)
        of_one_label = all(len(np.unique(each)) == 1 for each in voted)
        if is_more or like >= COPIES or (of_one_label and repeated >= _MOST):
            pair = {"pair": [votes.names[one], votes.names[other]], "agree": agree, "expected": expected}
            found.append(pair | {"alike": like, "repeated": repeated})
    return sorted(found, key=lambda pair: (-pair["alike"], pair["pair"]))


def doubts(votes: Votes, facts: Sequence[dict[str, Any]], related: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a sentence about each thing that a reader of the facts must not overlook."""
    for one in facts:
        measured = one.get("dev", {})
        if not one["votes"]:
            yield f"'{one['name']}' never votes"
        elif measured.get("high") is not None and measured["high"] < one["chance"]:
            yield (
                f"'{one['name']}' is worse than chance: {measured['right']} of {measured['judged']} votes are right, "
                f"and guessing would get {one['chance']:.2f}. Mend or remove it"
            )
        elif one["accuracy"] < one["chance"]:
            yield (
                f"'{one['name']}' seems worse than chance: the model takes {one['accuracy']:.2f} of its votes for "
                f"right, and guessing would get {one['chance']:.2f}"
            )
    for pair in related:
        first, second = pair["pair"]
        if pair["alike"] >= COPIES:
            yield (
                f"'{first}' and '{second}' are nearly one rule: the same vote on {pair['alike']:.0%} of the rows where "
                "either votes. The generative model counts them as one, and a majority as two: remove one"
            )
    voted_for = votes.counts().sum(axis=0)
    silent = [label for label, count in zip(votes.labels, voted_for, strict=True) if not count and label[:2] != "I-"]
    if silent := [label for label in silent if votes.lengths is None or label != "O"]:
        yield f"no function votes for {', '.join(silent)}"
    if sum((votes.table != ABSTAIN).any(axis=0)) < 3:
        yield "fewer than three functions vote: their accuracies can hardly be learnt from each other, use --dev"
