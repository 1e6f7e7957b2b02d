"""The story of weak supervision: texts, functions, votes, a label model; then labels with weights, and the facts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from peftlab.errors import ConfigError, DataError, UserError
from peftlab.scores.bio import repaired_bio
from peftlab.weak_supervision import evidence
from peftlab.weak_supervision.functions import LabellingFunction, Unlabelled
from peftlab.weak_supervision.label_model import generative, majority, weighted
from peftlab.weak_supervision.votes import ABSTAIN, Votes, cast

Model = Literal["majority", "weighted", "generative"]
"""The majority of votes; votes weighted by accuracies that are measured on labelled texts; or a generative model, which
learns accuracies from the votes alone."""

_TIE = 1e-9


@dataclass(frozen=True)
class Labelled:
    """The outcome."""

    rows: list[dict[str, Any]]
    """The labelled texts, as they are written."""
    unlabelled: list[dict[str, Any]]
    """The texts without a label: nobody votes, or several labels are equally probable."""
    facts: dict[str, Any]
    """What is reported."""


def label(
    functions: Sequence[LabellingFunction],
    texts: Sequence[Unlabelled],
    *,
    words: bool = False,
    labels: Sequence[str] | None = None,
    model: Model = "generative",
    balance: dict[str, float] | None = None,
    dev: Sequence[Unlabelled] = (),
) -> Labelled:
    """Label `texts` by the votes of `functions`.

    Args:
        functions: of unique names.
        texts: at least one.
        words: whether entities of sentences are labelled.
        labels: the classes, or the types of entities; None: all that the functions vote for.
        model: what combines the votes.
        balance: the share of each label, for the generative model; None: it is learnt.
        dev: labelled texts, by which functions and models are judged; ``weighted`` learns from them.

    Raises:
        DataError: all functions abstain on all texts, or there is a single class.
        UserError: a function fails or votes for no label; `model` lacks something, or an option has no effect.
    """
    if model == "weighted" and not dev:
        raise UserError("--model weighted learns the accuracy of each function on labelled texts: add --dev FILE")
    votes = cast(functions, texts, labels, words)
    if not (votes.table > (0 if words else ABSTAIN)).any():  # O says of no word what it is
        raise DataError("all functions abstain on all texts. Look at a few texts, and write what speaks for a label")
    if not words and len(votes.labels) == 1:
        raise DataError(
            f"all votes are for '{votes.labels[0]}', so that no text could have another label. Write functions for "
            "other labels too, or name them: --labels"
        )
    types = _types(votes)
    shares = None if balance is None else _shares(balance, votes, model)
    fitted = generative(votes, shares)
    facts = evidence.of_functions(votes, fitted)
    probabilities = {"majority": _majority(votes), "generative": _with_silence(votes, fitted.probabilities(votes))}
    report: dict[str, Any] = {"model": model, "functions": facts}
    if dev:
        on_dev, gold = cast(functions, dev, types, words), _gold(dev, votes)
        for one, measured in zip(facts, evidence.judged(on_dev, gold), strict=True):
            one["dev"] = measured
        of_dev = {"majority": _majority(on_dev), "generative": _with_silence(on_dev, fitted.probabilities(on_dev))}
        if model == "weighted":
            right, judged = (np.asarray([one["dev"][key] for one in facts]) for key in ("right", "judged"))
            probabilities["weighted"] = _with_silence(votes, weighted(votes, right, judged))
            of_dev["weighted"] = _with_silence(on_dev, weighted(on_dev, *_of_others(on_dev, gold)))
        report["dev"] = {
            "examples": len(dev),
            "models": _judged(on_dev, {name: of_dev[name] for name in ("majority", model)}, gold),
        }
    report["pairs"] = evidence.pairs(votes, fitted)
    report["doubts"] = list(evidence.doubts(votes, facts, report["pairs"]))
    if not fitted.settled:
        report["doubts"].append(
            "the model of the votes has not settled: what it has learnt of the functions, and its probabilities, are "
            "rough. More functions, or texts on which several vote, would decide it"
        )
    chosen, baseline = probabilities[model], probabilities["majority"]
    if not words:
        report["balance"] = dict(zip(votes.labels, map(_rounded, fitted.balance), strict=True))
    rows = _rows(texts, votes, chosen)
    ties = int((_tied(chosen) & votes.voted).sum()) if not words else 0
    report |= {
        "examples": len(texts),
        "labelled": sum("unlabelled" not in row for row in rows),
        "silent": sum(not votes.voted[begin:end].any() for begin, end in _places(votes)),
        "ties": ties,
        "differs_from_majority": int(
            ((chosen.argmax(axis=1) != baseline.argmax(axis=1)) & votes.voted & ~_tied(baseline)).sum()
        ),
        "rows": "words" if words else "texts",
    }
    return Labelled(
        [row for row in rows if "unlabelled" not in row],
        [row["unlabelled"] for row in rows if "unlabelled" in row],
        report,
    )


def _types(votes: Votes) -> list[str]:
    """Return the classes, or the types of entities, that the votes are about."""
    if votes.lengths is None:
        return votes.labels
    return [tag[2:] for tag in votes.labels if tag.startswith("B-")]


def _places(votes: Votes) -> list[tuple[int, int]]:
    """Return where the rows of each example begin and end."""
    return list(itertools.pairwise(votes.ends.tolist()))


def _majority(votes: Votes) -> np.ndarray:
    return _with_silence(votes, majority(votes))


def _with_silence(votes: Votes, probabilities: np.ndarray) -> np.ndarray:
    """Return the probabilities with O, for certain, for words on which nobody votes."""
    if votes.lengths is None:
        return probabilities
    return np.where(votes.voted[:, None], probabilities, np.eye(len(votes.labels))[0])


def _tied(probabilities: np.ndarray) -> np.ndarray:
    """Return which rows have several labels of the highest probability, shape (rows,)."""
    tied: np.ndarray = (probabilities >= probabilities.max(axis=1, keepdims=True) - _TIE).sum(axis=1) > 1
    return tied


def _shares(balance: dict[str, float], votes: Votes, model: Model) -> np.ndarray:
    if votes.lengths is not None or model != "generative":
        raise UserError("--balance is for --model generative and --task classification, and has no effect here")
    values = balance.values()  # NaN is none of what is asked
    if set(balance) != set(votes.labels) or not (min(values) > 0 and abs(sum(values) - 1) <= 1e-3):
        raise ConfigError(
            f"--balance: expected a share above 0 for each of {', '.join(votes.labels)}, together 1, such as "
            + ",".join(f"{name}={1 / len(votes.labels):.2f}" for name in votes.labels)
        )
    shares = np.asarray([balance[name] for name in votes.labels])
    return shares / shares.sum()


def _gold(dev: Sequence[Unlabelled], votes: Votes) -> np.ndarray:
    place = {name: n for n, name in enumerate(votes.labels)}
    for one in dev:
        for gold in one.gold if votes.lengths is not None else [one.gold]:
            if gold not in place:
                raise DataError(
                    f"{one.place}: '{gold}' is none of the labels {', '.join(votes.labels)}. Name all of them: --labels"
                )
    golds = [gold for one in dev for gold in (one.gold if votes.lengths is not None else [one.gold])]
    return np.asarray([place[gold] for gold in golds])


def _of_others(votes: Votes, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row how many votes of each function are right on all other examples, and how many are right or
    wrong, shape (rows, functions): whoever is judged by labels has not learnt from them.
    """
    right, judged = votes.table == gold[:, None], votes.table != ABSTAIN
    own = [np.add.reduceat(each, votes.ends[:-1], axis=0, dtype=np.int64) for each in (right, judged)]
    of_right, of_judged = (each.sum(axis=0) - np.repeat(each, np.diff(votes.ends), axis=0) for each in own)
    return of_right, of_judged


def _judged(votes: Votes, of_models: dict[str, np.ndarray], gold: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return how good the labels of each model are: of texts, the share of right ones among those that all label."""
    if votes.lengths is None:
        labelled = votes.voted & ~np.any([_tied(one) for one in of_models.values()], axis=0)
        right = {name: (one.argmax(axis=1) == gold)[labelled] for name, one in of_models.items()}
        return {name: evidence.share(one) for name, one in right.items()}
    its = _tags(votes, gold)
    own = {name: map(repaired_bio, _tags(votes, one.argmax(axis=1))) for name, one in of_models.items()}
    return {name: evidence.entity_scores(list(tags), its) for name, tags in own.items()}


def _tags(votes: Votes, places: np.ndarray) -> list[list[str]]:
    """Return the tags of each sentence, given their places in the labels, shape (words,)."""
    return [[votes.labels[tag] for tag in places[begin:end]] for begin, end in _places(votes)]


def _rows(texts: Sequence[Unlabelled], votes: Votes, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Return the labelled texts; one without a label is under the key ``unlabelled``."""
    if votes.lengths is not None:
        places = _places(votes)
        return [_sentence(text, votes, probabilities, *place) for text, place in zip(texts, places, strict=True)]
    tied, rows = _tied(probabilities), []
    for n, text in enumerate(texts):
        row: dict[str, Any] = {"text": text.text, **({} if text.pair is None else {"text_pair": text.pair})}
        if tied[n] or not votes.voted[n]:
            rows.append({"unlabelled": row})
            continue
        best = int(probabilities[n].argmax())
        said = zip(votes.names, votes.table[n], strict=True)
        row |= {
            "label": votes.labels[best],
            "weight": _rounded(probabilities[n, best]),
            "probabilities": dict(zip(votes.labels, map(_rounded, probabilities[n]), strict=True)),
            "votes": {name: votes.labels[one] for name, one in said if one != ABSTAIN},
        }
        rows.append(row)
    return rows


def _sentence(text: Unlabelled, votes: Votes, probabilities: np.ndarray, begin: int, end: int) -> dict[str, Any]:
    """Return a sentence with its tags; its weight is the mean probability of the tags of the words that any function
    votes on or that are no O.
    """
    of_words, voted = probabilities[begin:end], votes.voted[begin:end]
    if not voted.any():
        return {"unlabelled": {"words": list(text.words)}}  # as `Task.from_input` takes it
    best = of_words.argmax(axis=1)
    tags = repaired_bio([votes.labels[tag] for tag in best])
    counted = voted | (best > 0)
    own = of_words.max(axis=1)
    return {"tokens": list(text.words), "ner_tags": tags, "weight": _rounded(own[counted].mean())}


def _rounded(probability: float) -> float:
    """Return a probability with six digits, and never 0: a weight is above it."""
    return max(round(float(probability), 6), 1e-6)
