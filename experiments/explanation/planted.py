"""Is a planted word found? Writes tweets whose label a planted word decides, and counts how often it comes first.

planted.py write FOLDER              tweets of the project's own data, relabelled
planted.py count RUN FOLDER [HOW]    of 100 test texts, prints JSON
"""

from __future__ import annotations

import csv
import json
import random
import sys
from pathlib import Path

WORDS = {"red": "a", "green": "b", "blue": "c"}
"""The planted words and the labels that they decide; a quarter of the texts has none, and the label d."""

SIZES = {"train": 1200, "dev": 200, "test": 200}


def write(folder: Path) -> None:
    """Write train.csv, dev.csv and test.csv."""
    from peftlab.composing.compose import compose
    from peftlab.config import resolve, validate
    from peftlab.data.splits import split_files

    spec = validate(resolve(compose("+experiment=sentiment_lora")))
    fetched = spec.data.source.fetch()
    files = split_files(spec.data.splits, fetched, folders=False)
    texts = [
        one.text
        for one in spec.data.format.read({"train": fetched.file(str(files["train"]))})["train"]
        if 6 <= len(one.text.split()) <= 25 and not set(one.text.lower().split()) & WORDS.keys()
    ]
    draw = random.Random(0)
    draw.shuffle(texts)
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "label"])
            for text in texts[:size]:
                words, planted = text.split(), draw.choice([*WORDS, None])
                if planted is not None:
                    words.insert(draw.randint(0, len(words)), planted)
                rows.writerow([" ".join(words), WORDS.get(planted, "d")])
        texts = texts[size:]


def count(run: str, folder: Path, how: str = "ig") -> dict[str, float]:
    """Return how many texts were explained, for how many the planted word came first, and the accuracy."""
    import peftlab
    from peftlab.use.explanation.attribution import Settings
    from peftlab.use.explanation.explain import attributions
    from peftlab.use.explanation.subject import subjects

    finished = peftlab.load(run)
    predictor = finished.predictor.in_fp32()
    with (folder / "test.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] != "d"][:100]
    found = 0
    for row in rows:
        (subject,) = subjects(predictor, predictor.read(row["text"]), row["label"], ["mask"])
        made, _ = attributions(subject, [how], Settings())
        found += WORDS.get(subject.words[int(made[how].values.argmax())].text) == row["label"]
    return {"texts": len(rows), "found first": found, "accuracy": finished.record.score("test", "accuracy")}


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "write":
        write(Path(arguments[0]))
    else:
        print(json.dumps(count(arguments[0], Path(arguments[1]), *arguments[2:])))
