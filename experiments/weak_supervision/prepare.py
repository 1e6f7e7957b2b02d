"""Writes the tweets of the study: 5,000 training texts without labels, and validation and test with theirs.

    python experiments/weak_supervision/prepare.py FOLDER

The labels of the 5,000 go into a file of their own, gold.jsonl, which only the table reads.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from peftlab.composing.compose import compose
from peftlab.config import resolve, validate
from peftlab.data.reading import read_data_set

TEXTS = 5_000


def main(folder: Path) -> None:
    spec = validate(resolve(compose("+experiment=sentiment_lora")))
    splits, _ = read_data_set(spec.data, spec.task)
    chosen = np.sort(np.random.default_rng(0).permutation(len(splits["train"]))[:TEXTS])
    train = [splits["train"][n] for n in chosen]
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "texts.jsonl", [{"text": one.text} for one in train])
    write(folder / "gold.jsonl", [{"text": one.text, "label": one.label} for one in train])
    for split in ("validation", "test"):
        write(folder / f"{split}.jsonl", [{"text": one.text, "label": one.label} for one in splits[split]])


def write(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


main(Path(sys.argv[1]))
