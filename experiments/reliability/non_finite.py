"""NaN and infinities put into losses, gradients and weights: is the run stopped in time, and is the culprit named?

python experiments/reliability/non_finite.py [TRIALS]

In each trial, one drawn from a seed, a tiny run (LoRA or full fine-tuning, with or without accumulation) gets a bad
number at one place: in what a module returns for one part of a batch, in the gradient of one parameter, or in one
weight after a step. It must end with exit code 1 before the next step is made, its record must name that module and
the ids of the examples, and no file may hold a tensor that is not finite.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forked import forked
from tiny import make_data, make_model, overrides

import peftlab.one_run as story
from peftlab.composing.compose import compose

STEPS = 12


@dataclass(frozen=True)
class Trial:
    """Where the bad number goes."""

    kind: str
    value: float
    peft: str
    accumulate: int
    step: int
    """The optimiser step that it is put into, from 1; a weight is made bad after it."""
    seed: int

    @classmethod
    def draw(cls, seed: int) -> Trial:
        random_ = random.Random(seed)
        return cls(
            kind=("loss", "gradient", "weights")[seed % 3],
            value=random_.choice([math.nan, math.inf, -math.inf]),
            peft=random_.choice(["lora", "full"]),
            accumulate=random_.choice([1, 1, 3]),
            step=random_.randrange(1, STEPS),
            seed=seed,
        )


def poison(trial: Trial) -> Any:
    """Return a callback that puts the bad number in and writes down what the record should say of it."""
    import torch
    from lightning.pytorch.callbacks import Callback

    class Poison(Callback):  # type: ignore[misc]
        def on_train_start(self, trainer: Any, tuner: Any) -> None:
            self.random, self.model = random.Random(trial.seed), tuner.model
            self.part = self.random.randrange(trial.accumulate)
            self.ids: list[str] = []
            self.step, self.now = 0, False
            getattr(self, trial.kind)()

        def loss(self) -> None:
            def mark(_module: Any, _arguments: Any, inputs: dict[str, Any]) -> None:
                self.now = self.step >= trial.step and torch.equal(inputs["input_ids"], self.target)

            def spoil(_module: Any, _inputs: Any, output: Any) -> Any:
                if not self.now:
                    return output
                output = output.clone()
                output[0, 1] = trial.value  # the first word of a row: no padding, and part of the loss
                return output

            called = [
                (name, module)
                for name, module in self.model.named_modules()
                if isinstance(module, torch.nn.LayerNorm | torch.nn.Linear)
                and not list(module.children())
                and not re.search("lora_|base_layer|original_module", name)  # LoRA uses their tensors and calls none
            ]
            name, module = self.random.choice(called)
            self.model.register_forward_pre_hook(mark, with_kwargs=True)
            module.register_forward_hook(spoil)
            self.expect(name, [])

        def gradient(self) -> None:
            trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
            name, parameter = self.random.choice(trained)
            parameter.register_hook(lambda grad: grad * trial.value if self.step == trial.step else grad)
            self.expect(name.rpartition(".")[0], [name])

        def weights(self) -> None:
            name, self.parameter = self.random.choice(list(self.model.named_parameters()))
            self.expect(name.rpartition(".")[0], [name])

        def expect(self, module: str, parameters: list[str]) -> None:
            self.expected = {"kind": trial.kind, "module": module, "parameters": parameters}

        def on_train_batch_start(self, _trainer: Any, _tuner: Any, parts: list[Any], _index: int) -> None:
            self.step += 1
            if self.step == trial.step:
                self.target = parts[self.part].inputs["input_ids"]
                chosen = parts[self.part : self.part + 1] if trial.kind == "loss" else parts
                self.ids += [example.id for part in chosen for example in part.examples]
            Path("expected.json").write_text(json.dumps({**self.expected, "examples": self.ids}))

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trial.kind == "weights" and trainer.global_step == trial.step:
                with torch.no_grad():
                    if self.parameter.requires_grad:
                        self.parameter.view(-1)[self.random.randrange(self.parameter.numel())] = trial.value
                    else:  # one number of a frozen table may never be looked at
                        self.parameter.fill_(math.nan)

    return Poison()


def run(trial: Trial, model: Path, data: Path) -> None:
    """Do the run, spoilt, in the current folder."""
    make_trainer = story.make_trainer
    story.make_trainer = lambda spec, data, folder, callbacks, *rest: make_trainer(
        spec, data, folder, [poison(trial), *callbacks], *rest
    )
    story.run(
        compose(
            *overrides(model, data, f"peft={trial.peft}", f"trainer.accumulate={trial.accumulate}", "run_dir=run"),
            f"budget.max_steps={STEPS}",
            f"seed={trial.seed}",
        )
    )


def faults(trial: Trial, code: int, said: str, folder: Path) -> list[str]:
    """Return what is wrong about how the trial ended."""
    import torch
    from safetensors.torch import load_file

    record = json.loads((folder / "run" / "record.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())
    found = next((event for event in record["history"] if event["event"] == "not finite" and "module" in event), {})
    made = trial.step if trial.kind == "weights" else trial.step - 1
    module = found.get("module") or "nothing"
    checks = {
        f"exit code {code}": code == 1,
        f"status {record['status']}": record["status"] == "failed",
        f"{record['cost']['steps']} steps, not {made}": record["cost"]["steps"] == made,
        f"kind {found.get('kind')}": found.get("kind") == expected["kind"],
        f"module {module}, not {expected['module']}": module == expected["module"]
        or (trial.kind == "weights" and expected["module"].startswith(f"{module}.")),  # LoRA's layer, for its part
        f"parameters {found.get('parameters')}": found.get("parameters") == expected["parameters"],
        "the message lacks the module": f"error: step {made + 1}: " in said and module in said,
        "a traceback": "Traceback" not in said,
        "no best checkpoint": made < 8 or (folder / "run" / "checkpoints" / "best.safetensors").is_file(),
    }
    if trial.kind != "weights":
        checks[f"examples {found.get('examples')}"] = found.get("examples") == expected["examples"]
    for file in (folder / "run").rglob("*.safetensors"):
        checks[f"{file} is poisoned"] = all(bool(torch.isfinite(t).all()) for t in load_file(file).values())
    return [fault for fault, passed in checks.items() if not passed]


def main(how_many: int = 30) -> int:
    """Return how many trials went wrong."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ["PEFTLAB_CACHE"] = str(root / "cache")
        assert forked(lambda: make_model(root / "model"), root / "said.txt") == 0, (root / "said.txt").read_text()
        make_data(root / "data")
        for seed in range(how_many):
            trial, folder = Trial.draw(seed), root / str(seed)
            folder.mkdir()
            os.chdir(folder)
            code = forked(lambda trial=trial: run(trial, root / "model", root / "data"), folder / "said.txt")
            said = (folder / "said.txt").read_text()
            try:
                found = faults(trial, code, said, folder)
            except (OSError, ValueError) as error:
                found = [repr(error)]
            wrong += bool(found)
            if found:
                print(f"WRONG: {trial}: {'; '.join(found)}\n{said[-2000:]}", file=sys.stderr)
        os.chdir("/")
    print(f"non-finite numbers: {how_many - wrong} of {how_many} runs stopped in time, culprit and examples named")
    return wrong


if __name__ == "__main__":
    sys.exit(1 if main(*map(int, sys.argv[1:])) else 0)
