"""Four scores of label quality against the audited corrections of CoNLL-2003, from the predictions of one finished run.

    python experiments/label_errors/compare_scores.py RUN CORRECTIONS [--out results.json]

RUN is the folder of a finished run on data=conll2003; CORRECTIONS a checkout of
github.com/CODAIT/Identifying-Incorrect-Labels-In-CoNLL-2003 (Apache-2.0). Nothing is trained.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.data.cleaning.judged import judged
from peftlab.data.cleaning.label_errors import SCORES, is_error, worst
from peftlab.runs.folder import read_predictions
from peftlab.runs.record import RunRecord
from peftlab.scores.entity_scores import EntityScores

FOLDS = {"validation": "dev", "test": "test"}
LABEL_KINDS = ("Tag", "Wrong", "Missing", "Span", "Both")
"""The corrections of labels; the others, Sentence and Token, mend the borders of sentences and words, and labels with
them."""
FILE = "corrected_labels/all_conll_corrections_combined.csv"
DRAWS = 1000
START = len("-DOCSTART-\n")
"""Characters in a document before its first sentence, in the text that the corrections refer to."""

_NO_SPACE_BEFORE = re.compile(r"[!#%)*+,\-./:;=>?@\\\]^_`|}~]|'[a-zA-Z]{1,2}")
_NO_SPACE_AFTER = re.compile(r"[(<\[{$]+")
_SPAN = re.compile(r"\[(\d+),\s*(\d+)\)")

Place = tuple[int, int]
"""A sentence and a word in it."""


@dataclass
class Corrections:
    """The corrections of a split, by sentence."""

    kinds: list[Counter[str]]
    """How many corrections of each kind a sentence has."""
    gold: list[list[str]]
    """The tags of each sentence with the corrections of labels applied."""
    unmatched: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("corrections", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    record = RunRecord.load(options.run).data
    started, results = time.process_time(), {}
    for split, fold in FOLDS.items():
        rows = read_predictions(options.run / "predictions" / f"{split}.jsonl")
        results[split] = of_split(rows, read_corrections(options.corrections / FILE, fold, rows), record)
    document = {
        "run": record["run_id"],
        "code": record["code"]["commit"],
        "command": record["command"],
        "cpu_seconds": round(time.process_time() - started, 1),
        "splits": results,
    }
    text = json.dumps(document, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def of_split(rows: list[dict[str, Any]], corrections: Corrections, record: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of every ranking, and of the predictions on original and corrected gold."""
    documents = np.unique([row["group"] for row in rows], return_inverse=True)[1]
    random = np.random.default_rng(0)
    drawn = random.integers(documents.max() + 1, size=(DRAWS, documents.max() + 1))
    weights = np.stack([np.bincount(each, minlength=documents.max() + 1)[documents] for each in drawn])
    units = judged(rows, record["data"]["labels"])
    rankings = {
        name: worst(score(units.probabilities, units.gold), units.example, len(rows))[0]
        for name, score in SCORES.items()
    }
    depth = sum(count for of_one in corrections.kinds for kind, count in of_one.items() if kind in LABEL_KINDS)
    targets = {
        "label corrections": np.array([any(kind in LABEL_KINDS for kind in of_one) for of_one in corrections.kinds]),
        "all corrections": np.array([bool(of_one) for of_one in corrections.kinds]),
    }
    flagged = np.zeros(len(rows), dtype=bool)
    flagged[units.example[is_error(units.probabilities, units.gold)]] = True
    return {
        "sentences": len(rows),
        "corrections_by_kind": dict(sum(corrections.kinds, Counter())),
        "depth": depth,
        "unmatched": corrections.unmatched,
        "confident_learning": {"flagged": int(flagged.sum())}
        | {name: _rounded(wrong[flagged].mean()) for name, wrong in targets.items()},
        "rankings": {
            name: {"chance": _rounded(wrong.mean())} | _compared(rankings, wrong, weights, depth)
            for name, wrong in targets.items()
        },
        "entity_f1": _rescored(rows, corrections.gold, weights, record["data"]["labels"]),
    }


def _compared(
    rankings: dict[str, np.ndarray], wrong: np.ndarray, weights: np.ndarray, depth: int
) -> dict[str, dict[str, Any]]:
    """Return average precision and precision at `depth` of each ranking, with 95 % intervals over documents."""
    measures: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
        "average_precision": average_precision,
        f"precision_at_{depth}": lambda hits, times: precision_at(depth, hits, times),
    }
    compared: dict[str, dict[str, Any]] = {}
    drawn: dict[tuple[str, str], np.ndarray] = {}
    for name, scores in rankings.items():
        order = np.argsort(scores, kind="stable")
        compared[name] = {}
        for measure, of in measures.items():
            drawn[name, measure] = of(wrong[order], weights[:, order])
            value = _rounded(of(wrong[order], np.ones((1, len(order))))[0])
            compared[name][measure] = {"value": value, "interval": _interval(drawn[name, measure])}
            if name != "self_confidence":
                difference = drawn[name, measure] - drawn["self_confidence", measure]
                compared[name][measure]["difference_interval"] = _interval(difference)
    return compared


def average_precision(hits: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the average precision of rankings in which each element occurs `times`, shape (draws, elements)."""
    correct = np.cumsum(times * hits, axis=1)
    precision = correct / np.maximum(np.cumsum(times, axis=1), 1)
    return (precision * times * hits).sum(axis=1) / np.maximum(correct[:, -1], 1)


def precision_at(depth: int, hits: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the share of hits among the first `depth` elements of such rankings."""
    before = np.cumsum(times, axis=1) - times
    taken = np.clip(depth - before, 0, times)
    return (taken * hits).sum(axis=1) / depth


def _interval(draws: np.ndarray) -> list[float]:
    return [_rounded(value) for value in np.quantile(draws, [0.025, 0.975])]


def _rounded(value: float) -> float:
    return round(float(value), 4)


def _rescored(
    rows: list[dict[str, Any]], gold: list[list[str]], weights: np.ndarray, labels: list[str]
) -> dict[str, Any]:
    """Return the F1 of the same predictions on original and corrected gold, and the interval of the difference."""
    scorer = EntityScores(sorted({label[2:] for label in labels if label != "O"}))
    original = np.stack([scorer.total([row]) for row in rows])
    corrected = np.stack([scorer.total([{**row, "gold": tags}]) for row, tags in zip(rows, gold, strict=True)])

    def f1(counts: np.ndarray) -> float:
        return scorer.scores(counts)["entity_f1"]

    draws = [f1(each @ corrected) - f1(each @ original) for each in weights]
    return {
        "original": _rounded(f1(original.sum(axis=0))),
        "corrected": _rounded(f1(corrected.sum(axis=0))),
        "difference_interval": _interval(np.asarray(draws)),
    }


def read_corrections(file: Path, fold: str, rows: list[dict[str, Any]]) -> Corrections:
    """Return the corrections of a fold, matched to the sentences of `rows` by their places in the documents."""
    begins, ends = places(rows)
    found = Corrections([Counter() for _ in rows], [list(row["gold"]) for row in rows])
    with file.open(encoding="utf-8", newline="") as stream:
        entries = [entry for entry in csv.DictReader(stream) if entry["fold"] == fold]
    spans: dict[str, list[tuple[list[Place], list[Place], str]]] = {}
    for entry in entries:
        kind, document = entry["error_type"], int(entry["doc_offset"])
        old, new = (_words(entry[key], document, begins, ends) for key in ("corpus_span", "correct_span"))
        if kind in ("Tag", "Wrong", "Missing"):  # some entries have the span in the other column
            old = new = old or new
        if not old and not new:
            found.unmatched.append(f"{fold} document {document}: {entry['corpus_span'] or entry['correct_span']}")
            continue
        for sentence in {place[0] for place in [*old, *new]}:
            found.kinds[sentence][kind] += 1
        spans.setdefault(kind, []).append((old, new, entry["correct_ent_type"]))
    for kind in LABEL_KINDS:  # labels that go come first, entities that were missed last
        for old, new, type_ in spans.get(kind, ()):
            _apply(found.gold, kind, old, new, type_)
    return found


def _apply(gold: list[list[str]], kind: str, old: list[Place], new: list[Place], type_: str) -> None:
    """Change the tags of one correction: clear the old span, and mark the new one."""
    former = next((gold[s][w][2:] for s, w in old if gold[s][w] != "O"), "")
    for sentence, word in old:
        gold[sentence][word] = "O"
    marked = type_ if kind != "Span" else (former or type_)
    if kind == "Wrong" or not marked:
        new = []
    for n, (sentence, word) in enumerate(new):
        gold[sentence][word] = f"{'I' if n else 'B'}-{marked}"
    for sentence, word in {(s, w + 1) for s, w in [*old, *new]}:  # a rest of an entity that lost its beginning
        tags = gold[sentence]
        if word < len(tags) and tags[word][0] == "I" and tags[word - 1][2:] != tags[word][2:]:
            tags[word] = f"B-{tags[word][2:]}"


def places(rows: list[dict[str, Any]]) -> tuple[dict[tuple[int, int], Place], dict[tuple[int, int], Place]]:
    """Return the word that begins, and the one that ends, at each (document, character).

    The text of a document has a line for each sentence, with no space before a closing or after an opening mark.
    """
    begins: dict[tuple[int, int], Place] = {}
    ends: dict[tuple[int, int], Place] = {}
    document, group, position = -1, None, 0
    for sentence, row in enumerate(rows):
        if row["group"] != group:
            document, group, position = document + 1, row["group"], START
        for word, (start, end) in enumerate(_extents(row["input"])):
            begins[document, position + start] = ends[document, position + end] = (sentence, word)
            last = end
        position += last + 1
    return begins, ends


def _extents(words: list[str]) -> Iterator[tuple[int, int]]:
    end = 0
    for n, word in enumerate(words):
        joined = n == 0 or _NO_SPACE_BEFORE.fullmatch(word) or _NO_SPACE_AFTER.fullmatch(words[n - 1])
        start = end if joined else end + 1
        end = start + len(word)
        yield start, end


def _words(span: str, document: int, begins: dict[Any, Place], ends: dict[Any, Place]) -> list[Place]:
    """Return the words of a span such as ``[19, 22): 'Rom'``; of one over several sentences, those of the last."""
    if (match := _SPAN.match(span)) is None:
        return []
    first, last = begins.get((document, int(match[1]))), ends.get((document, int(match[2])))
    if last is None or first is None:
        return [place for place in (first, last) if place is not None]
    start = first[1] if first[0] == last[0] else 0
    return [(last[0], word) for word in range(start, last[1] + 1)]


if __name__ == "__main__":
    main()
