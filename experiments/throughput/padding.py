"""What a few static shapes cost in padding, and how many shapes there are without them. Needs no GPU, and no model.

python experiments/throughput/padding.py [KEY=VALUE ...]

For some experiments and batch sizes, and all epochs of their budget: the share of tokens that are no padding, and the
number of different shapes (rows, tokens), of training and of one validation, as they come and with
`trainer.static_shapes`. Nothing is computed but the plan of the batches. Overrides are for all of them.
"""

from __future__ import annotations

import sys
from collections import Counter

from peftlab.composing.compose import compose
from peftlab.data.module import DataModule
from peftlab.data.shapes import evaluation_shapes, training_shapes
from peftlab.data.static_shapes import StaticShapes
from peftlab.one_run import prepare

CASES = [
    *(("ner_lora", f"data.batch_size={size}") for size in (16, 32)),
    ("ner_lora", "data.batch_tokens=512"),
    *(("sentiment_lora", f"data.batch_size={size}") for size in (16, 32)),
    *(("topics_lora", f"data.batch_size={size}") for size in (16, 32)),
]


def main() -> None:
    print(f"{'':42}{'real tokens':>20}{'shapes':>16}{'rows':>16}")
    print(f"{'':42}" + f"{'as is':>10}{'static':>10}" + f"{'as is':>8}{'static':>8}" * 2)
    for experiment, batches in CASES:
        common = [f"+experiment={experiment}", "trainer=cpu", batches, *sys.argv[1:]]
        ready = prepare(compose(*common))
        data, epochs = ready.data, ready.spec.budget.max_epochs or 1
        show(f"{experiment} {batches}, {epochs} epochs", data, "train", epochs)
        if batches == "data.batch_size=16":
            show(f"{experiment} validation", data, "validation", 1)


def show(name: str, data: DataModule, split: str, epochs: int) -> None:
    """Print a row of the table."""
    tokens = epochs * int(data.splits[split].encoded.tokens.sum())
    both = []
    for static in (None, StaticShapes(data.spec.max_tokens)):
        data.static = static
        both.append(training_shapes(data, epochs) if split == "train" else evaluation_shapes(data, split))
    shares = [tokens / positions(shapes) for shapes in both]
    heights = [len({rows for rows, _ in shapes}) for shapes in both]
    print(
        f"{name:42}"
        + "".join(f"{share:10.3f}" for share in shares)
        + "".join(f"{len(shapes):8}" for shapes in both)
        + "".join(f"{height:8}" for height in heights)
    )


def positions(shapes: Counter[tuple[int, int]]) -> int:
    """Return the number of tokens in all passes, padding included."""
    return sum(rows * tokens * passes for (rows, tokens), passes in shapes.items())


if __name__ == "__main__":
    main()
