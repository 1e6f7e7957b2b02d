"""How fast training is beside other ways to do the same: ratios from interleaved rounds of new processes.

python experiments/throughput/measure.py [--texts conll|bbc] [--method lora|full|head] [--examples N] [--epochs N]
                                         [--rounds N] [NAME ...]

Each contender fine-tunes MiniLM on the same random choice of texts for whole epochs, since batches grouped by length
are not alike: sentences of CoNLL-2003 for entities, about 20 tokens, or BBC articles for topics, about 400 of at most
512. NAME chooses contenders. Each round has a seed of its own, 0, 1, ... Told are medians over the rounds: samples/s,
real tokens/s, the share of this machine's peak that goes into products of real tokens with weights (attention's own
products, a fifth more at 512 tokens, are left out), the most memory; then F1 on validation (of entities; macro over the
topics) as mean and standard deviation over the seeds, and the ratio of the first contender's samples/s to the others'
in the same round, with its range. Wants `pip install "peftlab[bench]"`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

EXPERIMENTS = {"lora": [], "full": ["peft=full"], "head": ["peft=head"]}


class Texts(NamedTuple):
    """What is trained on."""

    overrides: list[str]
    max_tokens: int
    """Also what the padded loop pads to."""
    examples: int
    """For training, by default."""
    hf_batch: int


TEXTS = {
    "conll": Texts(["+experiment=ner_lora"], 128, 1600, 32),
    "bbc": Texts(["+experiment=topics_lora", "data.max_tokens=512"], 512, 320, 16),
}
PASSES = {"lora": 4, "full": 6, "head": 2}
"""Floating-point operations a token and weight: two for the output, two each for the gradients of input and weight."""
EVALUATED = 1000
"""The most validation texts."""
HF_LR = {"lora": 2e-3, "full": 5e-5, "head": 1e-2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contenders", nargs="*", metavar="NAME", default=list(CONTENDERS), help=", ".join(CONTENDERS))
    parser.add_argument("--texts", choices=TEXTS, default="conll")
    parser.add_argument("--method", choices=EXPERIMENTS, default="lora")
    parser.add_argument("--examples", type=int, help="training texts; by default 1600 sentences or 320 articles")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    chosen.examples = chosen.examples or TEXTS[chosen.texts].examples
    if chosen.within:
        (name,) = chosen.contenders
        found = CONTENDERS[name](Work(chosen.texts, chosen.method, chosen.examples, chosen.epochs, chosen.seed))
        print(json.dumps(found))
        return
    rounds = [{name: one(name, chosen, seed) for name in chosen.contenders} for seed in range(chosen.rounds)]
    report(rounds, chosen, peak())


def one(name: str, chosen: argparse.Namespace, seed: int) -> dict[str, float]:
    keys = ("texts", "method", "examples", "epochs")
    options = [word for key in keys for word in (f"--{key}", str(getattr(chosen, key)))] + ["--seed", str(seed)]
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run(
            [sys.executable, __file__, "--within", name, *options], cwd=folder, check=True, stdout=subprocess.PIPE
        )
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    print(f"{name:34} {found['samples'] / found['seconds']:6.1f} samples/s", file=sys.stderr, flush=True)
    return found


def report(rounds: list[dict[str, dict[str, float]]], chosen: argparse.Namespace, most: float) -> None:
    first = chosen.contenders[0]
    work = f"{chosen.texts}, {chosen.method}, {chosen.examples} texts, {chosen.epochs} epochs"
    print(f"{work}, medians of {chosen.rounds} rounds")
    print(f"{'':34} samples/s  tokens/s  of peak  GiB    F1               {first} is faster by")
    for name in chosen.contenders:
        of = [found[name] for found in rounds]
        rates = [it["samples"] / it["seconds"] for it in of]
        firsts = [found[first]["samples"] / found[first]["seconds"] for found in rounds]
        ratios = sorted(ours / rate for ours, rate in zip(firsts, rates, strict=True))
        tokens = statistics.median(it["tokens"] / it["seconds"] for it in of)
        share = statistics.median(it["tokens"] * it["flops_a_token"] / it["seconds"] for it in of) / most
        memory = statistics.median(it["peak_memory_gib"] for it in of)
        scores = [it["f1"] for it in of]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        print(
            f"{name:34} {statistics.median(rates):9.1f} {tokens:9.0f} {share:8.1%} {memory:5.2f} "
            f"{statistics.mean(scores):.4f} ± {spread:.4f}  "
            f"{statistics.median(ratios):6.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


class Work:
    """The same model, texts and method for everyone."""

    def __init__(self, texts: str, method: str, examples: int, epochs: int, seed: int) -> None:
        self.texts, self.method, self.epochs, self.seed = TEXTS[texts], method, epochs, seed
        self.overrides = [
            *self.texts.overrides,
            *EXPERIMENTS[method],
            f"seed={seed}",
            f"budget.max_epochs={epochs}",
            f"budget.train_examples={examples}",
            f"budget.eval_examples={EVALUATED}",
            "budget.test=false",
            "logger=[]",
            "callbacks=[]",
        ]

    def ready(self, *overrides: str) -> tuple[Any, Any, Any]:
        """Return our specification, data and tuner."""
        from peftlab import backbone
        from peftlab.assembly import build_tuner
        from peftlab.composing.compose import compose
        from peftlab.config import resolve, validate
        from peftlab.data.module import DataModule
        from peftlab.one_run import seed_everything
        from peftlab.speed.frozen_weights import store_in_bf16

        spec = validate(resolve(compose(*self.overrides, *overrides)))
        seed_everything(spec)
        pretrained = backbone.fetch(spec.model)
        data = DataModule(spec.data, spec.task, pretrained.processor("tokenizer"), spec.budget, spec.seed)
        data.load()
        tuner = build_tuner(spec, pretrained)
        if spec.trainer.frozen_weights == "bf16":
            store_in_bf16(tuner.model)
        return spec, data, tuner

    def measured(self, model: Any, data: Any, seconds: float, precision: str) -> dict[str, float]:
        """Return what is told of a contender that has trained `model` for `seconds`."""
        from peftlab.training.cost import peak_memory_gib

        encoded = data.splits["train"].encoded
        return {
            "samples": self.epochs * len(encoded.lengths),
            "tokens": self.epochs * int(encoded.lengths.sum()),
            "seconds": seconds,
            "flops_a_token": self.flops_a_token(model),
            "peak_memory_gib": peak_memory_gib(),
            "f1": f1(model, data, precision),
        }

    def flops_a_token(self, model: Any) -> int:
        """Return the arithmetic that the linear layers of the backbone call for; attention's own is left out."""
        from torch import nn

        layers = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and "encoder" in name]
        frozen = [m for m in layers if m.weight.shape[0] > 64 and m.weight.shape[1] > 64]  # adapters are not
        return PASSES[self.method] * sum(m.weight.numel() for m in frozen)


def peftlab_as_it_comes(work: Work) -> dict[str, float]:
    """`peftlab.run` with its defaults, timed by its record."""
    import peftlab
    from peftlab.runs.folder import RunFolder
    from peftlab.use.finished import FinishedRun

    record = peftlab.run(*work.overrides)
    finished = FinishedRun(RunFolder(record))
    spec, data, _ = work.ready()
    seconds = record.data["cost"]["train_seconds"]
    return work.measured(finished.model, data, seconds, spec.trainer.precision)


def plain_loop_over_our_batches(work: Work) -> dict[str, float]:
    """What `peftlab.run` computes, without Lightning, callbacks and loggers."""
    spec, data, tuner = work.ready()
    seconds = train_plainly(tuner.model, tuner.context.head, spec, data, work.epochs)
    return work.measured(tuner.model, data, seconds, spec.trainer.precision)


def train_plainly(model: Any, head: Sequence[str], spec: Any, data: Any, epochs: int) -> float:
    """Train `model` as a run of `spec` does, in a loop and no more; return the seconds that the steps took."""
    from torch import nn

    model.train()
    optimizer = spec.optimizer.attach(model, head)
    schedule = spec.scheduler.attach(optimizer, epochs * len(data.train_dataloader()))
    trained = [p for p in model.parameters() if p.requires_grad]
    began = time.perf_counter()
    for epoch in range(epochs):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        for (batch,) in loader:
            with autocast(spec.trainer.precision):
                loss = spec.task.loss(model(**batch.inputs), batch)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, spec.trainer.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return time.perf_counter() - began


def trainer_as_it_comes(work: Work) -> dict[str, float]:
    return _hugging_face(work)


def trainer_grouped(work: Work) -> dict[str, float]:
    return _hugging_face(work, train_sampling_strategy="group_by_length")


def trainer_grouped_bf16(work: Work) -> dict[str, float]:
    return _hugging_face(work, train_sampling_strategy="group_by_length", bf16=True)


def padded_loop(work: Work) -> dict[str, float]:
    """The loop of many repositories: every row as long as any may be, batches of 16, fp32."""
    import torch

    _, data, tuner = work.ready("trainer.precision=32-true")
    model = _as_a_user_builds_it(work, tuner)
    rows = list(_rows(data, pad_to=work.texts.max_tokens))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=HF_LR[work.method] / 2)
    model.train()
    began = time.perf_counter()
    for _ in range(work.epochs):
        for indices in torch.randperm(len(rows)).split(16):
            columns = {key: torch.tensor([rows[i][key] for i in indices]) for key in rows[0]}
            model(**columns).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return work.measured(model, data, time.perf_counter() - began, "32-true")


CONTENDERS: dict[str, Callable[[Work], dict[str, float]]] = {
    "peftlab": peftlab_as_it_comes,
    "plain-loop-over-our-batches": plain_loop_over_our_batches,
    "trainer": trainer_as_it_comes,
    "trainer-grouped": trainer_grouped,
    "trainer-grouped-bf16": trainer_grouped_bf16,
    "padded-loop": padded_loop,
}


def _hugging_face(work: Work, **arguments: Any) -> dict[str, float]:
    """Hugging Face's Trainer with the peft library, on the same rows."""
    from transformers import DataCollatorForTokenClassification, DataCollatorWithPadding, Trainer, TrainingArguments

    _, data, tuner = work.ready("trainer.precision=32-true")
    model = _as_a_user_builds_it(work, tuner)
    by_word = data.task.head.task_type == "TOKEN_CLS"
    collator = DataCollatorForTokenClassification if by_word else DataCollatorWithPadding
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir="out",
            use_cpu=True,
            per_device_train_batch_size=work.texts.hf_batch,
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
        data_collator=collator(data.tokenizer),
        train_dataset=list(_rows(data)),
    )
    began = time.perf_counter()
    trainer.train()
    precision = "bf16-mixed" if arguments.get("bf16") else "32-true"
    return work.measured(model, data, time.perf_counter() - began, precision)


def _as_a_user_builds_it(work: Work, tuner: Any) -> Any:
    """Return the backbone of `tuner` with the same dropout, and the method of `work` by the peft library alone.

    A pooler is trained as ours is: MiniLM's is random, and left frozen it would cost F1.
    """
    import transformers
    from peft import LoraConfig, get_peft_model

    config, head = tuner.model.config, tuner.task.head
    model = getattr(transformers, head.model).from_pretrained(
        config.name_or_path or config._name_or_path, config=config, attn_implementation=config._attn_implementation
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


def f1(model: Any, data: Any, precision: str) -> float:
    """Return the score that the task selects by, an F1 of either task."""
    import torch

    model.eval()
    task, answers = data.task, []
    with torch.inference_mode(), autocast(precision):
        for batch in data.val_dataloader():
            answers += task.answers(model(**batch.inputs), batch, model, final=False)
    return task.scorer.scores(task.scorer.total(answers))[task.selection.metric]


def autocast(precision: str) -> Any:
    import torch

    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed")


def peak() -> float:
    """Return the operations a second of a large product of matrices, the best of several, in fp32 or in bf16.

    Both begin with a small product, and a precision that is clearly the slower one there goes no further: without
    instructions for bf16, a large product in it takes minutes.
    """
    import torch

    precisions = [torch.float32, torch.bfloat16]
    for size in (256, 512, 1024, 2048):
        rates = {precision: _rate(size, precision) for precision in precisions}
        precisions = [precision for precision in precisions if 2 * rates[precision] > max(rates.values())]
    return max(rates.values())


def _rate(size: int, precision: Any) -> float:
    """Return the operations a second of a product of two square matrices, the best of six."""
    import torch

    a = torch.randn(size, size).to(precision)
    times = []
    for _ in range(6):
        began = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)


if __name__ == "__main__":
    main()
