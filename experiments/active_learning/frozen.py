"""Queries on a frozen encoder: MiniLM reads every question once, and a logistic regression learns the labels.

Run `python experiments/active_learning/frozen.py DATA [--query random breaking_ties ...] [--one-of-each]`; DATA is the
folder of banking77. Of its intents the first 20 in the order of the file; the pool are their training questions,
the score is the accuracy on their test questions. Each seed begins with a random sample, or with one question of each
intent. Prints the table of `peftlab active`: the area under the curve, and its paired difference from random.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from peftlab.active_learning import queries
from peftlab.active_learning.curve import outcome, rows
from peftlab.active_learning.observed import Observed
from peftlab.composing.compose import compose
from peftlab.models import backbone
from peftlab.one_run import settle
from peftlab.terminal.output import table

INTENTS = 20


def main() -> None:
    """Read the questions, and print the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--inverse-regularization", type=float, default=1.0)
    parser.add_argument(
        "--query",
        nargs="+",
        default=["random", "breaking_ties", "entropy", "least_confidence", "badge", "cal", "coreset"],
    )
    parser.add_argument("--one-of-each", action="store_true")
    options = parser.parse_args()
    texts, labels, intents = {}, {}, []
    for split in ("train", "test"):
        with (options.data / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            questions = list(csv.DictReader(file))
        intents = list(dict.fromkeys(one["category"] for one in questions))[:INTENTS] if split == "train" else intents
        texts[split] = [one["text"] for one in questions if one["category"] in intents]
        labels[split] = np.asarray([intents.index(one["category"]) for one in questions if one["category"] in intents])
    embeddings = {split: embedded(texts[split], options.data) for split in texts}
    facts = []
    for seed in range(options.seeds):
        for name in options.query:
            order = np.random.default_rng(seed).permutation(len(labels["train"]))
            firsts = {int(labels["train"][place]): place for place in order[::-1]}
            known = list(firsts.values()) if options.one_of_each else list(order[: options.batch])
            for number in range(options.rounds + 1):
                model = LogisticRegression(C=options.inverse_regularization, max_iter=1000)
                model.fit(embeddings["train"][known], labels["train"][known])
                score = float((model.predict(embeddings["test"]) == labels["test"]).mean())
                facts.append(
                    {
                        "query": name,
                        "seed": seed,
                        "budget": len(known),
                        "metric": "accuracy",
                        "beside": 0,
                        "pool_by_labels": ["intents"],
                        "score": score,
                    }
                )
                if number < options.rounds:
                    known += ask(
                        name, model, embeddings["train"], known, options.batch, np.random.default_rng((seed, number))
                    )
    print(table(rows(outcome(facts, "labels"))))


def ask(
    name: str,
    model: LogisticRegression,
    embeddings: np.ndarray,
    known: list[int],
    batch: int,
    random: np.random.Generator,
) -> list[int]:
    """Return the places of the next questions."""
    everything = Observed(np.arange(len(embeddings) + 1), model.predict_proba(embeddings), None, embeddings)
    left = np.setdiff1d(np.arange(len(embeddings)), known)
    chosen = queries.named(name).choose(everything.of(left), everything.of(known), batch, random)
    return left[chosen].tolist()


def embedded(texts: list[str], data: Path) -> np.ndarray:
    """Return the mean of the last hidden states of each text."""
    _, spec = settle(compose("+experiment=banking77_lora", f"data.path={data}", "logger=[]"))
    pretrained = backbone.fetch(spec.model, spec.task)
    tokenizer = pretrained.processor("tokenizer").tokenizer
    spec.task.learn_labels({"train": []}, ["a", "b"])
    encoder = pretrained.load(spec.task, "sdpa").model.base_model.eval()
    means = []
    with torch.inference_mode():
        for start in range(0, len(texts), 64):
            inputs = tokenizer(
                texts[start : start + 64], padding=True, truncation=True, max_length=128, return_tensors="pt"
            )
            mask = inputs["attention_mask"].unsqueeze(-1)
            means.append((encoder(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1))
    return torch.cat(means).numpy().astype(np.float64)


if __name__ == "__main__":
    main()
