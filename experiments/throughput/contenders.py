"""The ways to fine-tune that are measured beside each other, each in a process of its own."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import clock
import torch
from clock import Reading
from kernels import Window
from peak import wait_for
from plain import autocast, plain_steps
from synthetic import BASE, TINY, Sizes, make_bert, make_sentences, on
from torch import nn

METHODS = {"lora": ["peft=lora"], "full": ["peft=full"], "head": ["peft=head"]}
PASSES = {"lora": 4, "full": 6, "head": 2}
"""Floating-point operations a token and weight: two for the output, two each for the gradients of input and weight."""
EVALUATED = 1000
"""The most validation texts."""
HF_LR = {"lora": 2e-3, "full": 5e-5, "head": 1e-2}
STARTED = "PEFTLAB_MEASURE_STARTED"
"""The variable that says when this process was started, in seconds since 1970."""


class Made(NamedTuple):
    """A model and texts that are made on the spot."""

    sizes: Sizes
    tokens: tuple[int, int]
    """Of a text, special ones included: at least and at most."""

    def overrides(self, folder: Path, examples: int) -> list[str]:
        """Make both in `folder`, and return the overrides that choose them."""
        model = make_bert(folder / "model", self.sizes)
        return on(model, make_sentences(folder / "data", self.sizes.vocabulary, self.tokens, examples, 64))


class Texts(NamedTuple):
    """What is trained on."""

    overrides: list[str]
    max_tokens: int
    """Also what the padded loop pads to."""
    examples: int
    """For training, by default."""
    hf_batch: int
    made: Made | None = None
    """How model and texts are made; None: those that the overrides name."""


_BASE, _TINY = ["task=ner", "data.batch_size=32", "model.attention_dropout=0"], ["task=ner", "data.batch_size=8"]
TEXTS = {
    "conll": Texts(["+experiment=ner_lora"], 128, 1600, 32),
    "bbc": Texts(["+experiment=topics_lora", "data.max_tokens=512"], 512, 320, 16),
    "base": Texts(_BASE, 128, 3200, 32, Made(BASE, (128, 128))),
    "tiny": Texts(_TINY, 64, 160, 8, Made(TINY, (8, 40))),
}


class Laps:
    """Reads the clocks after the first step, and around the last epoch; call it after every step.

    It waits for the device then, and at no other time.

    Args:
        steps: those of the whole training.
        epochs: passes over the texts.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, steps: int, epochs: int, device: str) -> None:
        self.steps, self.before_last, self.device = steps, steps * (epochs - 1) // epochs, device
        self.taken = 0
        self.figures: dict[str, float] = {}
        """Seconds: from the start of this process to the end of the first step, and those of the last epoch."""

    def __call__(self) -> None:
        self.taken += 1
        if self.taken == 1:
            wait_for(self.device)
            self.figures["first_step_seconds"] = time.time() - float(os.environ.get(STARTED, "nan"))
        if self.taken == self.before_last:
            wait_for(self.device)
            self.began = Reading.now()
        if self.taken == self.steps and self.before_last:
            wait_for(self.device)
            last = Reading.now().since(self.began)
            self.figures |= {"last_epoch_seconds": last.wall, "last_epoch_thread_seconds": last.thread}


Hook = Callable[[int, int, str], Laps | Window]
"""Makes what is called after every step, of the number of steps and epochs and the device."""


@dataclass(frozen=True)
class Work:
    """The same model, texts and method for everyone.

    Args:
        texts: a key of `TEXTS`.
        method: a key of `METHODS`.
        device: ``cpu`` or ``cuda``.
        examples: texts to train on.
        epochs: passes over them.
        seed: for everything random.
        overrides: further ones, which win.
        hook: makes what is called after every step.
    """

    texts: str
    method: str
    device: str
    examples: int
    epochs: int
    seed: int
    overrides: Sequence[str]
    hook: Hook = Laps

    def composed(self, *overrides: str) -> list[str]:
        """Return the overrides of a run, with further ones before the user's own."""
        return [
            *TEXTS[self.texts].overrides,
            *METHODS[self.method],
            f"trainer={'gpu' if self.device == 'cuda' else 'cpu'}",
            f"seed={self.seed}",
            f"budget.max_epochs={self.epochs}",
            f"budget.train_examples={self.examples}",
            f"budget.eval_examples={EVALUATED}",
            f"budget.validate_every={self.epochs}",
            "budget.test=false",
            "logger=[]",
            "callbacks=[]",
            *clock.OVERRIDES,
            *overrides,
            *self.overrides,
        ]

    def ready(self, *overrides: str) -> tuple[Any, Any, Any]:
        """Return our specification, data and tuner."""
        from peftlab.assembly import store_and_compile
        from peftlab.composing.compose import compose
        from peftlab.one_run import build, prepare

        prepared = prepare(compose(*self.composed(*overrides)))
        tuner = build(prepared)
        store_and_compile(tuner.model, prepared.spec.trainer)
        return prepared.spec, prepared.data, tuner

    def measured(self, model: Any, data: Any, hook: Laps | Window, seconds: float, score: float) -> dict[str, float]:
        """Return what is told of a contender that has trained `model` for `seconds`."""
        from peftlab.training.cost import peak_memory_gib

        encoded = data.splits["train"].encoded
        return {
            "samples": self.epochs * len(encoded.lengths),
            "tokens": self.epochs * int(encoded.lengths.sum()),
            "epochs": self.epochs,
            "steps": hook.taken,
            "seconds": seconds,
            "flops_a_token": self.flops_a_token(model),
            "peak_memory_gib": peak_memory_gib(self.device == "cuda"),
            "f1": score,
            **hook.figures,
        }

    def flops_a_token(self, model: Any) -> int:
        """Return the arithmetic that the linear layers of the backbone call for; attention's own is left out."""
        layers = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and "encoder" in name]
        frozen = [m for m in layers if m.weight.shape[0] > 64 and m.weight.shape[1] > 64]  # adapters are not
        return PASSES[self.method] * sum(m.weight.numel() for m in frozen)


Contender = Callable[[Work], dict[str, float]]


def peftlab_as_it_comes(work: Work) -> dict[str, float]:
    """`peftlab.run` with its defaults, timed by its record."""
    import peftlab

    seen: list[Any] = []

    def start(trainer: Any, tuner: Any) -> None:
        hook = work.hook(int(trainer.estimated_stepping_batches), work.epochs, work.device)
        clock.after_step[:] = [hook]
        seen[:] = [tuner, trainer.datamodule, hook]

    clock.at_start[:] = [start]
    record = peftlab.run(*work.composed())
    tuner, data, hook = seen
    score = record.score("validation", tuner.task.selection.metric)
    assert score is not None
    return work.measured(tuner.model, data, hook, record.data["cost"]["train_seconds"], score)


def plain_loop_over_our_batches(work: Work) -> dict[str, float]:
    """What `peftlab.run` computes, without Lightning, callbacks and loggers."""
    spec, data, tuner = work.ready()
    model = tuner.model.to(work.device)

    def batches() -> Iterator[Any]:
        for epoch in range(work.epochs):
            loader = data.train_dataloader()
            loader.sampler.set_epoch(epoch)
            yield from (part for parts in loader for part in parts)

    steps = work.epochs * data.steps_of_epoch()
    hook = work.hook(steps, work.epochs, work.device)
    began = time.perf_counter()
    for _ in plain_steps(model, tuner.context.head, spec, batches(), steps, work.device):
        hook()
    wait_for(work.device)
    seconds = time.perf_counter() - began
    precision = spec.trainer.precision
    return work.measured(model, data, hook, seconds, f1(model, data, work.device, precision))


def trainer_as_it_comes(work: Work) -> dict[str, float]:
    return _hugging_face(work)


def trainer_grouped(work: Work) -> dict[str, float]:
    return _hugging_face(work, train_sampling_strategy="group_by_length")


def trainer_grouped_bf16(work: Work) -> dict[str, float]:
    """Its best on a GPU: batches grouped by length, bf16, the fused optimiser, which is its default."""
    return _hugging_face(work, train_sampling_strategy="group_by_length", bf16=True)


def trainer_grouped_bf16_16(work: Work) -> dict[str, float]:
    """The same with batches of 16, as ours are."""
    return _hugging_face(work, 16, train_sampling_strategy="group_by_length", bf16=True)


def padded_loop(work: Work) -> dict[str, float]:
    """The loop of many repositories: every row as long as any may be, batches of 16, fp32."""
    _, data, tuner = work.ready("trainer.precision=32-true")
    model = _as_a_user_builds_it(work, tuner).to(work.device)
    rows = list(_rows(data, pad_to=TEXTS[work.texts].max_tokens))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=HF_LR[work.method] / 2)
    model.train()
    hook = work.hook(work.epochs * math.ceil(len(rows) / 16), work.epochs, work.device)
    began = time.perf_counter()
    for _ in range(work.epochs):
        for indices in torch.randperm(len(rows)).split(16):
            columns = {key: torch.tensor([rows[i][key] for i in indices], device=work.device) for key in rows[0]}
            model(**columns).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            hook()
    wait_for(work.device)
    seconds = time.perf_counter() - began
    return work.measured(model, data, hook, seconds, f1(model, data, work.device, "32-true"))


CONTENDERS: dict[str, Contender] = {
    "peftlab": peftlab_as_it_comes,
    "plain-loop-over-our-batches": plain_loop_over_our_batches,
    "trainer": trainer_as_it_comes,
    "trainer-grouped": trainer_grouped,
    "trainer-grouped-bf16": trainer_grouped_bf16,
    "trainer-grouped-bf16-16": trainer_grouped_bf16_16,
    "padded-loop": padded_loop,
}


def _hugging_face(work: Work, batch: int | None = None, **arguments: Any) -> dict[str, float]:
    """Hugging Face's Trainer with the peft library, on the same rows."""
    from transformers import (
        DataCollatorForTokenClassification,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    _, data, tuner = work.ready("trainer.precision=32-true")
    model = _as_a_user_builds_it(work, tuner)
    by_word = data.task.head.task_type == "TOKEN_CLS"
    collator = DataCollatorForTokenClassification if by_word else DataCollatorWithPadding
    rows = list(_rows(data))
    batch = batch or TEXTS[work.texts].hf_batch
    hook = work.hook(work.epochs * math.ceil(len(rows) / batch), work.epochs, work.device)

    class AfterStep(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            hook()

    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir="out",
            use_cpu=work.device == "cpu",
            per_device_train_batch_size=batch,
            num_train_epochs=work.epochs,
            learning_rate=HF_LR[work.method],
            warmup_steps=0.1,
            weight_decay=0.01,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=work.seed,
            **arguments,
        ),
        data_collator=collator(data.processor.tokenizer),
        train_dataset=rows,
        callbacks=[AfterStep()],
    )
    began = time.perf_counter()
    trainer.train()
    wait_for(work.device)
    seconds = time.perf_counter() - began
    precision = "bf16-mixed" if arguments.get("bf16") else "32-true"
    return work.measured(model, data, hook, seconds, f1(model, data, work.device, precision))


def _as_a_user_builds_it(work: Work, tuner: Any) -> Any:
    """Return the backbone of `tuner` with the same dropout, and the method of `work` by the peft library alone.

    A pooler is trained as ours is: MiniLM's is random, and left frozen it would cost F1.
    """
    import transformers
    from peft import LoraConfig, get_peft_model

    config, head = tuner.model.config, tuner.task.head
    model = getattr(transformers, head.model).from_pretrained(
        config.name_or_path or config._name_or_path,
        config=config,
        attn_implementation=config._attn_implementation,
        dtype=torch.float32,
    )
    if work.method == "lora":
        lora = LoraConfig(
            task_type=head.task_type,
            r=16,
            lora_alpha=16,
            target_modules=["query", "key", "value", "dense"],
            exclude_modules=r".*pooler.*",
            modules_to_save=list(tuner.context.head),
        )
        model = get_peft_model(model, lora)
    elif work.method == "head":
        model.requires_grad_(False)
        for name in tuner.context.head:
            model.get_submodule(name).requires_grad_(True)
    return model


def _rows(data: Any, pad_to: int | None = None) -> Iterator[dict[str, list[int]]]:
    train = data.splits["train"]
    for i in range(train.rows):
        batch = data.task.collate(train.examples, train.encoded, [i])
        columns = {**batch.inputs, "labels": batch.targets["labels"]}
        fill = {"input_ids": train.encoded.padding, "attention_mask": 0, "labels": -100}
        for n in range(len(batch.targets["labels"])):
            row = {key: column[n].tolist() for key, column in columns.items()}
            yield {key: _filled(value, fill[key], pad_to or 0) for key, value in row.items()}


def _filled(value: Any, fill: int, length: int) -> Any:
    """Return a list with `fill` up to `length`; a label of a whole text as it is."""
    return value + [fill] * (length - len(value)) if isinstance(value, list) else value


def f1(model: Any, data: Any, device: str, precision: str) -> float:
    """Return the score that the task selects by, an F1 of either task."""
    model.eval()
    task, answers = data.task, []
    with torch.inference_mode(), autocast(device, precision):
        for host_batch in data.val_dataloader():
            batch = host_batch.to(torch.device(device))
            answers += task.answers(model(**batch.inputs), batch, model, final=False)
    return task.scorer.scores(task.scorer.total(answers))[task.selection.metric]
