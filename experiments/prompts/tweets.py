"""Make the data of this study of VADER's tweets (Hutto & Gilbert 2014): python tweets.py hutto_ICWSM_2014 FOLDER.

A tweet is positive or negative by the sign of its mean rating; those rated between -1 and 1 are left out. The test
split has equally many of both, 200 in all, the validation split 10, and training examples are drawn from the rest. The
order is drawn once, by a seed of its own.
"""

from __future__ import annotations

import json
import sys
from html import unescape
from pathlib import Path

import numpy as np

SIZES = {"test": 100, "validation": 5}
"""Tweets of each label; all others are for training."""


def main(folder: str, out: str) -> None:
    """Write a file of JSON lines for each split."""
    lines = (Path(folder) / "tweets_GroundTruth.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [line.split("\t") for line in lines if line]
    of_label: dict[str, list[str]] = {"negative": [], "positive": []}
    for place in np.random.default_rng(2014).permutation(len(rows)):
        _, rating, text = rows[place]
        if abs(float(rating)) >= 1:
            of_label["positive" if float(rating) > 0 else "negative"].append(unescape(text).strip())
    Path(out).mkdir(parents=True, exist_ok=True)
    begin = 0
    for split, size in [*SIZES.items(), ("train", None)]:
        end = None if size is None else begin + size
        chosen = [{"text": text, "label": label} for label, texts in of_label.items() for text in texts[begin:end]]
        content = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in chosen)
        (Path(out) / f"{split}.jsonl").write_text(content, encoding="utf-8")
        begin = end or begin


if __name__ == "__main__":
    main(*sys.argv[1:])
