"""Score a linear model on the splits of an experiment, with the experiment's own scorer.

    python experiments/tasks/baselines.py FILE EXPERIMENT [key=value ...]

Texts: TF-IDF of words and word pairs and of character n-grams, with logistic regression, or ridge regression where the
gold is a number. Words: logistic regression on each word, its neighbours, its affixes and its shape. The strength of
the penalty is chosen on the validation split. Nothing is done where FILE has the score already, or gold is something
else.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline, make_union

from peftlab.composing.compose import compose
from peftlab.data.reading import read_data_set
from peftlab.one_run import settle
from peftlab.tasks.task import Task

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Inverse strengths of the penalty."""


def texts_of(task: Task, examples: Sequence[Any]) -> list[str]:
    """Return the texts, both parts of a pair joined."""
    return [task.text_key(example).replace("\x1f", " ") for example in examples]


def of_texts() -> Any:
    """Return what turns texts into features."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2)
    return make_union(words, characters)


def of_words(words: Sequence[str]) -> list[list[str]]:
    """Return the features of each word of a sentence."""
    padded = ["<s>", "<s>", *(word.lower() for word in words), "</s>", "</s>"]
    features = []
    for n, word in enumerate(words):
        shape = re.sub(r"\d+", "9", re.sub(r"[a-z]+", "a", re.sub(r"[A-Z]+", "A", word)))
        lower = word.lower()
        own = [f"shape={shape}", *(f"pre={lower[:k]}" for k in (2, 3, 4)), *(f"suf={lower[-k:]}" for k in (2, 3, 4))]
        features.append(own + [f"{offset}={padded[n + 2 + offset]}" for offset in range(-2, 3)])
    return features


def answers_of_texts(task: Task, splits: dict[str, Sequence[Any]], penalty: float) -> dict[str, list[dict[str, Any]]]:
    """Return the answers of a linear model to validation and test."""
    gold = [task.gold(example) for example in splits["train"]]
    numbers = isinstance(gold[0], float)
    linear = Ridge(alpha=1 / penalty) if numbers else LogisticRegression(C=penalty, max_iter=1000)
    model = make_pipeline(of_texts(), linear).fit(texts_of(task, splits["train"]), gold)
    answers = {}
    for split in ("validation", "test"):
        predicted = model.predict(texts_of(task, splits[split]))
        answers[split] = [
            {"id": example.id, "gold": task.gold(example), "predicted": float(one) if numbers else str(one)}
            for example, one in zip(splits[split], predicted, strict=True)
        ]
    return answers


def answers_of_words(task: Task, splits: dict[str, Sequence[Any]], penalty: float) -> dict[str, list[dict[str, Any]]]:
    """Return the answers of a linear model of single words to validation and test."""
    tagger = make_pipeline(
        CountVectorizer(analyzer=list, binary=True, min_df=2), LogisticRegression(C=penalty, max_iter=300)
    )
    features = [one for example in splits["train"] for one in of_words(example.words)]
    tagger.fit(features, [tag for example in splits["train"] for tag in example.tags])
    answers: dict[str, list[dict[str, Any]]] = {}
    for split in ("validation", "test"):
        tags = iter(tagger.predict([one for example in splits[split] for one in of_words(example.words)]).tolist())
        answers[split] = [
            {"id": example.id, "gold": example.tags, "predicted": [next(tags) for _ in example.words]}
            for example in splits[split]
        ]
    return answers


def scored(task: Task, answers: Sequence[dict[str, Any]]) -> float:
    """Return the score that the experiment selects by."""
    scorer = task.scorer
    return float(scorer.scores(scorer.total(answers))[task.selection.metric])


def main(file: Path, experiment: str, overrides: Sequence[str]) -> None:
    """Add the score of the linear model to `file`."""
    done = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if experiment in done:
        return
    _, spec = settle(compose(f"experiment={experiment}", *overrides))
    splits, _ = read_data_set(spec.data, spec.task)
    gold = spec.task.gold(splits["train"][0])
    if not isinstance(gold, str | float | list) or (isinstance(gold, list) and not hasattr(splits["train"][0], "tags")):
        print(f"{experiment}: there is no linear baseline for its gold")
        return
    make = answers_of_words if isinstance(gold, list) else answers_of_texts
    began = time.process_time()
    tried = {penalty: make(spec.task, dict(splits), penalty) for penalty in PENALTIES}
    sign = -1 if spec.task.selection.mode == "min" else 1
    best = max(tried, key=lambda penalty: sign * scored(spec.task, tried[penalty]["validation"]))
    done[experiment] = {
        "metric": spec.task.selection.metric,
        "penalty": best,
        "validation": scored(spec.task, tried[best]["validation"]),
        "test": scored(spec.task, tried[best]["test"]),
        "cpu_seconds": round(time.process_time() - began, 1),
    }
    file.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    print(experiment, done[experiment])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
