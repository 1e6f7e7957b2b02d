"""The study of this folder: five patterns, ten draws of 16 tweets a class, a language model of 135M parameters.

    python experiments/prompts/tweets.py FOLDER/hutto_ICWSM_2014 runs/prompts/data
    python experiments/prompts/run.py runs/prompts [key=value ...]        # overrides of all runs
    python experiments/prompts/table.py runs/prompts

Start it again to resume: finished runs are left alone, and an interrupted one goes on where it stopped. DRAWS=2
PATTERNS=2 makes it smaller.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import peftlab

PATTERNS = {
    "sentiment": ("{text}\nSentiment: {answer}", "negative", "positive"),
    "question": ("{text}\nIs this tweet positive or negative? {answer}", "negative", "positive"),
    "great": ("{text} It was {answer}", "terrible", "great"),
    "feeling": ("Tweet: {text}\nThe author feels {answer}", "bad", "good"),
    "mood": ("{text}\nMood: {answer}", "sad", "happy"),
}
"""By name: a template, and the words for negative and positive."""

SHARED = (
    *("model=smollm2_135m", "data=json_lines", "data.max_tokens=48", "data.batch_size=8", "data.eval_batch_size=32"),
    *("trainer=cpu", "trainer.precision=32-true", "logger=[csv]", "callbacks=[progress]"),
    "task.selection.metric=accuracy",
    *("budget.per_class=16", "budget.select=last", "existing=auto"),
)
TRAINED = (
    "peft=lora",
    "budget.max_epochs=4",
    "budget.validate_every=4",
    "optimizer.lr=5e-4",
    "trainer.checkpoint_every=10",
)
UNTRAINED = ("peft=head", "budget.max_epochs=null", "budget.max_steps=0")


def runs(draws: int, patterns: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the name and the overrides of each run, the cheap ones first."""
    chosen = dict(list(PATTERNS.items())[:patterns])
    for name, pattern in chosen.items():
        for calibration in ("contextual", "domain", "batch"):
            yield f"zero-{name}-{calibration}-0", (*prompt(*pattern), f"task.calibration={calibration}", *UNTRAINED)
    for draw in range(draws):
        seed = f"budget.sample_seed={draw}"
        yield f"head-none-none-{draw}", ("task=classification", seed, *TRAINED)
        for name, pattern in chosen.items():  # training is the same under any calibration, and the table shows both
            yield f"prompt-{name}-contextual-{draw}", (*prompt(*pattern), seed, "task.calibration=contextual", *TRAINED)


def prompt(template: str, negative: str, positive: str) -> tuple[str, ...]:
    """Return the overrides of a pattern."""
    words = f"task.label_words={{negative: {negative}, positive: {positive}}}"
    return ("task=prompt", f"task.template={json.dumps(template)}".replace("\\n", "\n"), words)


def main(out: str, *overrides: str) -> None:
    """Make all runs below `out`."""
    draws, patterns = int(os.environ.get("DRAWS", "10")), int(os.environ.get("PATTERNS", "5"))
    given = {override.partition("=")[0] for override in overrides}
    shared = [override for override in SHARED if override.partition("=")[0] not in given]
    for name, own in runs(draws, patterns):
        folder = Path(out) / name
        record = peftlab.run(*shared, f"data.path={Path(out) / 'data'}", *own, f"run_dir={folder}", *overrides)
        print(name, record.score("test", "accuracy"), f"{record.seconds_on_device():.0f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
