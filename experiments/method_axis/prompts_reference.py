"""Prompt methods on named entities beside the peft library's own, where that can be trained at all.

python experiments/method_axis/prompts_reference.py [--seeds N]

The same MiniLM, 1,000 sentences of CoNLL-2003, batches, optimiser and schedule, three epochs: once with the method as
peftlab has it, once with the model that `peft.get_peft_model` makes, its head trained as that library does. Told is F1
of entities on the whole validation split, mean and SD over the seeds, and of what cannot be trained, why not.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
from torch import nn

from peftlab.assembly import build_tuner
from peftlab.composing.compose import compose
from peftlab.one_run import Prepared, prepare

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "throughput"))

from measure import f1, train_plainly

EPOCHS = 3
RECIPE = (
    "experiment=ner_lora",
    "logger=[]",
    "callbacks=[]",
    "budget.train_examples=1000",
    f"budget.max_epochs={EPOCHS}",
)
LIBRARYS: dict[str, Callable[[Any], Any]] = {
    "prefix_tuning": lambda spec: peft.PrefixTuningConfig(
        task_type="TOKEN_CLS", num_virtual_tokens=spec.num_virtual_tokens, prefix_projection=spec.prefix_projection
    ),
    "prompt_tuning": lambda spec: peft.PromptTuningConfig(
        task_type="TOKEN_CLS", num_virtual_tokens=spec.num_virtual_tokens
    ),
    "p_tuning": lambda spec: peft.PromptEncoderConfig(
        task_type="TOKEN_CLS", num_virtual_tokens=spec.num_virtual_tokens, encoder_hidden_size=384
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    for method in LIBRARYS:
        for whose, build in (("peftlab", ours), ("peft library", theirs)):
            try:
                scores = [
                    trained(build, prepare(compose(*RECIPE, f"peft={method}", f"seed={n}"))) for n in range(seeds)
                ]
            except (ValueError, RuntimeError, IndexError) as error:
                print(f"{method:14} {whose:13} cannot be trained: {error}", flush=True)
                continue
            spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
            print(f"{method:14} {whose:13} {statistics.mean(scores):.4f} ± {spread:.4f}", flush=True)


def ours(ready: Prepared) -> nn.Module:
    return build_tuner(ready.spec, ready.pretrained).model


def theirs(ready: Prepared) -> nn.Module:
    config = LIBRARYS[ready.spec.peft.name](ready.spec.peft)
    model: nn.Module = peft.get_peft_model(ready.pretrained.backbone(ready.spec.task), config)
    return model


def trained(build: Callable[[Prepared], nn.Module], ready: Prepared) -> float:
    """Return the F1 on validation after the training."""
    model = build(ready)
    train_plainly(model, ["classifier"], ready.spec, ready.data, EPOCHS)
    return f1(model, ready.data, ready.spec.trainer.precision)


if __name__ == "__main__":
    main()
