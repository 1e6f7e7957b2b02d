"""Write four small classification tasks as one data set: ``python prepare.py DATA FOLDER``.

DATA holds the folders ``banking77`` and ``vader``; tweets and news come from the package index. Each task has at most
`SIZES` texts, drawn by the digest of the text; labels are named for their task, as ``tweets/positive``.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from peftlab.composing.compose import compose
from peftlab.data.reading import read_data_set
from peftlab.one_run import settle

SIZES = {"train": 200, "validation": 50, "test": 200}
TASKS = {
    "tweets": ["data=tweet_sentiment"],
    "topics": ["data=bbc_topics"],
    "intents": ["data=banking77", "data.path={data}/banking77"],
    "reviews": [
        "data=vader",
        "data.path={data}/vader/hutto_ICWSM_2014",
        "task=regression",
        "data.splits.train=amazonReviewSnippets_GroundTruth.txt",
        "data.splits.test=0.2",
    ],
}
INTENTS = 11
"""The first ones, in the order of the alphabet."""
CLEAR = 1.0
"""Reviews whose mean rating is nearer to 0 are left out."""


def texts(name: str, overrides: list[str], data: str) -> Iterator[tuple[str, str, str]]:
    """Yield split, text and label of each text of a task."""
    chosen = [text.format(data=data) for text in overrides]
    _, spec = settle(compose("task=classification", *chosen, "logger=[]", "callbacks=[]"))
    splits, _ = read_data_set(spec.data, spec.task)
    if name == "intents":
        first = {*spec.task.labels[:INTENTS]}
    for split, examples in splits.items():
        for example in examples:
            gold = spec.task.gold(example)
            if name == "reviews":
                if abs(gold) < CLEAR:
                    continue
                gold = "positive" if gold > 0 else "negative"
            if name != "intents" or gold in first:
                yield split, example.text, f"{name}/{gold}"


def drawn(rows: Iterable[tuple[str, str, str]]) -> dict[str, list[dict[str, str]]]:
    """Return at most `SIZES` of the rows of each split, in an order that depends on nothing but the texts."""
    in_order = sorted(rows, key=lambda row: hashlib.sha256(row[1].encode()).digest())
    kept: dict[str, list[dict[str, str]]] = {split: [] for split in SIZES}
    for split, text, label in in_order:
        if len(kept[split]) < SIZES[split]:
            kept[split].append({"text": text, "label": label})
    return kept


def main(data: str, folder: Path) -> None:
    """Write ``train.jsonl``, ``validation.jsonl`` and ``test.jsonl``, and print how many texts each task has."""
    folder.mkdir(parents=True, exist_ok=True)
    all_tasks = {name: drawn(texts(name, overrides, data)) for name, overrides in TASKS.items()}
    for split in SIZES:
        rows = [json.dumps(row, ensure_ascii=False) for kept in all_tasks.values() for row in kept[split]]
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for name, kept in all_tasks.items():
        labels = {row["label"] for row in kept["train"]}
        print(name, {split: len(rows) for split, rows in kept.items()}, f"{len(labels)} labels")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
