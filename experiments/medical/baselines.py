"""The answers of the majority, and of logistic regression on TF-IDF, to the same folds of PubMedQA as the runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from peftlab.composing.compose import compose
from peftlab.data.reading import read_data_set
from peftlab.one_run import settle

FOLDS = 5


def baselines() -> dict[str, list[dict[str, Any]]]:
    """Return the answers of each baseline to the questions of all folds; each is fitted without the fold it answers."""
    answers: dict[str, list[dict[str, Any]]] = {"majority": [], "TF-IDF": []}
    for fold in range(1, FOLDS + 1):
        config = compose("+experiment=pubmedqa_lora", "data.splits.test=0.01", f"data.fold={fold}/{FOLDS}")
        spec = settle(config)[1]
        splits, _ = read_data_set(spec.data, spec.task)
        fitted = [*splits["train"], *splits["validation"]]
        texts, gold = [f"{one.text} {one.pair}" for one in fitted], [one.label for one in fitted]
        asked = splits["test"]
        most = Counter(gold).most_common(1)[0][0]
        model = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=10, max_iter=1000)
        )
        guessed = model.fit(texts, gold).predict([f"{one.text} {one.pair}" for one in asked])
        for name, predicted in (("majority", [most] * len(asked)), ("TF-IDF", guessed)):
            answers[name] += [
                {"id": f"{fold}:{one.id}", "text": one.text, "gold": one.label, "predicted": str(each)}
                for one, each in zip(asked, predicted, strict=True)
            ]
    return answers
