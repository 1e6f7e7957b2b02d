"""Tokens a second of a decoder with LoRA: packed and unpacked, beside TRL's SFTTrainer on the same tokens.

python experiments/throughput/decoders.py [--device cpu|cuda] [--size smollm2|tiny] [--batch 64] [--steps 20] [NAME ...]

The model has the sizes of SmolLM2-135M and random weights; conversations are made, their lengths spread like those of
instructions. All contenders train the same LoRA on the same tokens in the same precision, without dropout or gradient
checkpointing, each in a process of its own, in turns. Padding is not counted. A step of TRL that packs has so many full
rows as hold about the tokens of a batch; in all others it has the same number of conversations. Wants trl and datasets.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from peak import machine, wait_for

from peftlab.composing.compose import compose
from peftlab.one_run import prepare, run
from peftlab.training.cost import peak_memory_gib

CONTENDERS = ("peftlab", "peftlab-unpacked", "trl-packed", "trl")
SIZES = {
    "smollm2": {"num_hidden_layers": 30, "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9},
    "tiny": {"num_hidden_layers": 2, "hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 3},
}
WORDS = {"smollm2": 49152, "tiny": 512}
ROW = 1024
"""Tokens of the longest row."""
WARM_UP = 3
"""Steps that are not timed."""
LENGTHS = ((1.2, 4.0), (1.0, 4.6))
"""Spread and mean of the logarithm of the words of a prompt and of an answer: 55 and 100 in the middle, few of 500."""


class Reached(NamedTuple):
    """What a contender has reached."""

    tokens_per_second: float
    gib: float
    tokens_per_step: float
    loss: float


class Clock:
    """The times and the tokens of steps."""

    def __init__(self, device: str) -> None:
        self.device, self.tokens = device, list[int]()
        self.times, self.losses = list[float](), list[float]()

    def after_step(self, last: bool = False) -> None:
        if last or len(self.times) < WARM_UP + 1:
            wait_for(self.device)
        self.times.append(time.perf_counter())

    def reached(self) -> Reached:
        timed = self.tokens[WARM_UP : len(self.times)]
        rate = sum(timed) / (self.times[-1] - self.times[WARM_UP - 1])
        return Reached(rate, peak_memory_gib(self.device == "cuda"), sum(timed) / len(timed), self.losses[-1])


class Steps(Callback):
    """Follows a run of peftlab."""

    clock: Any

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: list[Any], batch_idx: int
    ) -> None:
        self.clock.tokens.append(sum(part.tokens for part in batch))
        last = trainer.global_step == trainer.max_steps
        self.clock.after_step(last)
        if last:
            self.clock.losses.append(float(pl_module.step_loss))


def make(folder: Path, size: str, conversations: int) -> list[str]:
    """Make a model and conversations in `folder`, and return the overrides that choose them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<unk>", "<|im_start|>", "<|im_end|>", "system", "user", "assistant"]
    words = [*special, *(f"w{n}" for n in range(WORDS[size] - len(special)))]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<|im_end|>", eos_token="<|im_end|>"
    )
    made.save_pretrained(folder / "model")
    config = LlamaConfig(
        **SIZES[size],
        num_key_value_heads=3,
        vocab_size=WORDS[size],
        tie_word_embeddings=True,
        max_position_embeddings=2 * ROW,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    draw = random.Random(0)
    (folder / "data").mkdir(parents=True)
    for split, count in {"train": conversations, "validation": 8, "test": 8}.items():
        with open(folder / "data" / f"{split}.jsonl", "w", encoding="utf-8") as file:
            for _ in range(count):
                prompt, answer = (
                    " ".join(f"w{draw.randrange(WORDS[size] - len(special))}" for _ in range(number))
                    for number in (min(480, max(4, round(draw.lognormvariate(mean, of)))) for of, mean in LENGTHS)
                )
                file.write(json.dumps({"prompt": prompt, "answer": answer}) + "\n")
    return ["model=folder", f"model.path={folder / 'model'}", "data=conversations", f"data.path={folder / 'data'}"]


def overrides(chosen: argparse.Namespace, packs: bool) -> list[str]:
    """Return the overrides of a run of peftlab."""
    return [
        *chosen.made,
        "task=causal_lm",
        "task.template=chatml",
        f"task.packing={'bfd' if packs else 'off'}",
        "task.generate.at=never",
        "peft=lora",
        f"data.max_tokens={ROW}",
        f"data.batch_size={chosen.batch}",
        "budget.max_epochs=null",
        f"budget.max_steps={chosen.steps}",
        "budget.test=false",
        "trainer.accelerator=" + ("gpu" if chosen.device == "cuda" else "cpu"),
        "trainer.precision=" + ("bf16-mixed" if chosen.device == "cuda" else "32-true"),
        "trainer.deterministic=false",
        "logger=[]",
        f"run_dir={chosen.folder}/run",
    ]


def with_peftlab(chosen: argparse.Namespace, packs: bool) -> Reached:
    import decoders  # this module again, under the name by which the configuration knows it

    decoders.Steps.clock = clock = Clock(chosen.device)
    run(compose(*overrides(chosen, packs), "allow=[decoders]", "+callbacks.steps._target_=decoders.Steps"))
    return clock.reached()


def with_trl(chosen: argparse.Namespace, packs: bool) -> Reached:
    """Train on the rows that a run of peftlab would have, tokenised alike."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    ready = prepare(compose(*overrides(chosen, packs=False)))
    encoded = ready.data.splits["train"].encoded
    rows = list(conversations_of(encoded))
    mean = sum(len(row["input_ids"]) for row in rows) / len(rows)
    clock = Clock(chosen.device)

    class AfterStep(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.after_step(state.global_step == chosen.steps)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            clock.losses.append(float(logs.get("loss", clock.losses[-1] if clock.losses else 0)))

    on_gpu = chosen.device == "cuda"
    folder = Path(ready.spec.model.path or "")
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(folder),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(
            r=16, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        args=SFTConfig(
            output_dir=f"{chosen.folder}/trl",
            max_length=ROW,
            packing=packs,
            per_device_train_batch_size=max(1, round(chosen.batch * mean / ROW)) if packs else chosen.batch,
            max_steps=chosen.steps,
            learning_rate=1.5e-3,
            max_grad_norm=1.0,
            bf16=on_gpu,
            use_cpu=not on_gpu,
            gradient_checkpointing=False,
            optim="adamw_torch_fused",
            logging_steps=chosen.steps,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        callbacks=[AfterStep()],
    )
    collate: Callable[[Any], Any] = trainer.data_collator

    def counting(rows: list[dict[str, Any]]) -> Any:
        clock.tokens.append(sum(len(row["input_ids"]) for row in rows))
        return collate(rows)

    trainer.data_collator = counting
    trainer.train()
    return clock.reached()


def conversations_of(encoded: Any) -> Iterator[dict[str, list[int]]]:
    """Yield the tokens of each conversation, and its labels."""
    tokens, learnt = encoded.arrays["tokens"], encoded.arrays["learnt"]
    for begin, end in pairwise(encoded.arrays["examples"].tolist()):
        ids = tokens[begin:end].tolist()
        labels = [id if is_learnt else -100 for id, is_learnt in zip(ids, learnt[begin:end], strict=True)]
        yield {"input_ids": ids, "labels": labels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contenders", nargs="*", default=CONTENDERS, metavar="NAME")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=SIZES, default="smollm2")
    parser.add_argument("--batch", type=int, default=64, help="conversations in a step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a contender, in a process of its own
    parser.add_argument("--made", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        contend = with_trl if chosen.one.startswith("trl") else with_peftlab
        print(json.dumps(contend(chosen, packs=chosen.one in ("peftlab", "trl-packed"))))
        return
    print(f"{machine(chosen.device)}; {chosen.size}, {chosen.batch} conversations a step, {chosen.steps} steps")
    with tempfile.TemporaryDirectory() as work:
        made = make(Path(work), chosen.size, chosen.batch * chosen.steps)
        best: dict[str, Reached] = {}
        for number in range(chosen.rounds):
            for name in chosen.contenders:
                given = [f"--{key}={getattr(chosen, key)}" for key in ("device", "size", "batch", "steps")]
                command = [sys.executable, __file__, *given, "--one", name, "--folder", f"{work}/{name}-{number}"]
                ran = subprocess.run([*command, "--made", *made], capture_output=True, text=True, check=False)
                if ran.returncode:
                    print(f"{name}: failed\n{ran.stderr[-2000:]}", flush=True)
                    continue
                one = Reached(*json.loads(ran.stdout.splitlines()[-1]))
                best[name] = max(best.get(name, one), one)
        first = next(iter(best.values()), None)
        for name, one in best.items():
            assert first is not None
            print(
                f"{name}: {one.tokens_per_second:,.0f} tokens/s, peak {one.gib:.2f} GiB, {one.tokens_per_step:,.0f} "
                f"tokens a step, last loss {one.loss:.3f}; {next(iter(best))} is "
                f"{first.tokens_per_second / one.tokens_per_second:.2f} x as fast"
            )
        if len(best) < len(chosen.contenders):
            sys.exit(1)


if __name__ == "__main__":
    main()
