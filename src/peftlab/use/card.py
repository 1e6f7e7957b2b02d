"""The README of an exported model: its origin, training data and scores. No torch."""

from __future__ import annotations

from peftlab.runs.record import RunRecord


def model_card(
    run: RunRecord,
    model_class: str,
    processor: str,
    processor_class: str,
    pipeline: str,
    model_origin: str,
    model_licence: str | None,
    largest_difference: float,
    doubt: str | None,
) -> str:
    """Return the Markdown of the card.

    Args:
        run: the record of the run.
        model_class: the transformers class that loads the model.
        processor: the kind of processor that makes its inputs, such as ``tokenizer``.
        processor_class: the transformers class that loads the processor.
        pipeline: the kind of model, as transformers' pipelines name it.
        model_origin: the source of the pretrained model.
        model_licence: the licence of the pretrained model, if known.
        largest_difference: between the logits of the exported model and those of the run.
        doubt: why the scores of the record could not be checked and are left out; None if they were.
    """
    record = run.data
    data, method, identity = record["data"], record["method"], record["identity"]
    rows = ", ".join(f"{split['rows']:,} {name}" for name, split in data["splits"].items())
    labels = f"\n- **Labels**: {', '.join(data['labels'])}" if data["labels"] else ""
    return f"""\
---
library_name: transformers
pipeline_tag: {pipeline}
tags: [peftlab, {method["name"]}]
---

# {record["name"]}

A {pipeline} model: {model_origin} fine-tuned on {data["name"]} by the method `{method["name"]}`, which trained
{method["trainable_parameters"]:,} of {method["total_parameters"]:,} parameters. What the method added is merged into
the weights: it is a plain transformers model.

```python
from transformers import {model_class}, {processor_class}

model, {processor} = {model_class}.from_pretrained("."), {processor_class}.from_pretrained(".")
```

- **Data**: {data["name"]} ({data["origin"]}), rows: {rows}
- **Licence of the data**: {data["licence"] or "not known"}
- **Licence of the pretrained model**: {model_licence or "not known"}{labels}

{_scores(run) if doubt is None else f"The scores of the run are left out: {doubt}."}

The logits of this model and those of the run's, both in fp32 on the validation split, differ by at most
{largest_difference:.2g}.

Made by peftlab {record["code"]["version"]} on {record["started_at"][:10]}: run {record["run_id"]}, identity
{identity["sha256"]}.
"""


def _scores(run: RunRecord) -> str:
    precision = run.data["environment"]["precision"]
    rows = "\n".join(
        f"| {score['split']} | {score['name']} | {score['value']:.4f} | {score['scorer']} |"
        for score in run.scores()
        if score["checkpoint"] == "best"
    )
    return f"""\
| split | score | value | scorer |
|---|---|---|---|
{rows}

The scores are those of the run, computed in {precision}; they follow from its predictions."""
