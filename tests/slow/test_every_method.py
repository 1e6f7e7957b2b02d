"""Every method of ``conf/peft/`` in other processes: a run is loaded there, and two devices learn what one does."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class
from safetensors.torch import load_file
from tests.method_files import FILES, METHODS, OFTEN
from tests.slow.conftest import logits_here_and_elsewhere

import peftlab
from peftlab.methods.method import Method
from peftlab.terminal.signals import Interrupted
from peftlab.training.trail import Trail

CLASSES = {name: get_class(file._target_) for name, file in FILES.items()}
IN_TRAINING = ("calibrate", "penalty", "after_step", "trained", "learning_rate_factor")
"""What a class may do in its own way while a run trains."""
TRAINING_IN_THEIR_OWN_WAY = {
    name for name, cls in CLASSES.items() if any(getattr(cls, key) is not getattr(Method, key) for key in IN_TRAINING)
}
SOME = sorted(TRAINING_IN_THEIR_OWN_WAY | {"full", "houlsby", "lora", "prefix_tuning"})
"""Those, and one of each place where weights may be: how a run goes on, and what two devices do with a gradient, is no
other method's doing."""
RUN = ["trainer=cpu", "trainer.precision=32-true", "data.batch_size=8", "data.eval_batch_size=8", "callbacks=[]"]
RUN += ["model.dropout=0", "model.attention_dropout=0", "budget=smoke", "budget.max_steps=4", "budget.test=false"]
RUN += ["trainer.log_every=2", "optimizer=sgd", "optimizer.lr=0.05", "optimizer.algorithm.fused=false"]
"""Of what an optimiser like Adam does with a gradient that is nearly zero, the sign is left to rounding."""

HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""What Python does not show of libraries."""

TRAIN = '''
"""Train with the methods and the overrides in argv on the devices that torchrun gives."""

import json
import sys

import torch.distributed

import peftlab

methods, overrides = map(json.loads, sys.argv[1:])
destroy, torch.distributed.destroy_process_group = torch.distributed.destroy_process_group, lambda: None
for method in methods:
    peftlab.run(*overrides, f"peft={method}", f"run_dir=two/{method}", "trainer.devices=2")
destroy()  # of torchrun's processes, no second group can be made
'''

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def overrides(tiny_model, tiny_data):
    return ["model=folder", f"model.path={tiny_model}", "data=files", f"data.path={tiny_data}", *RUN]


GROUPS = {"often": sorted({*OFTEN, *SOME}), "others": [name for name in METHODS if name not in {*OFTEN, *SOME}]}


@pytest.fixture(scope="module")
def runs_of(overrides, made_once):
    """Return a maker of a folder in which ``one/NAME`` is a finished run of every method of a group."""

    def fill(folder, group):
        for method in GROUPS[group]:
            with warnings.catch_warnings(record=True) as said:
                peftlab.run(*overrides, f"peft={method}", f"run_dir={folder}/one/{method}")
            seen = [f"{one.category.__name__}: {one.message}" for one in said if not issubclass(one.category, HIDDEN)]
            (folder / "one" / method / "warnings.json").write_text(json.dumps(seen))

    return lambda group: made_once(f"{group} of every_method", functools.partial(fill, group=group))


@pytest.fixture
def runs(runs_of):
    return runs_of("often")


each_group = pytest.mark.parametrize("group", ["often", pytest.param("others", marks=pytest.mark.exhaustive)])


@pytest.mark.exhaustive
@each_group
def test_no_library_warns_of_what_is_as_it_should_be(runs_of, group):
    for method in GROUPS[group]:
        assert json.loads((runs_of(group) / "one" / method / "warnings.json").read_text()) == [], method


@pytest.mark.exhaustive
@each_group
def test_a_new_process_gives_the_same_logits(runs_of, group):
    for method, (expected, found) in logits_here_and_elsewhere(runs_of(group) / "one", GROUPS[group]).items():
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[number], expected[number]) for number in expected), method


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.parametrize("method", SOME)
def test_an_interrupted_run_goes_on_to_the_same_bits(method, runs, overrides, monkeypatch):
    write = Trail.on_train_batch_end

    def interrupt(self, trainer, *rest):
        write(self, trainer, *rest)
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trail, "on_train_batch_end", interrupt)
        with pytest.raises(Interrupted):
            peftlab.run(*overrides, f"peft={method}", "run_dir=run")
    resumed = peftlab.run(*overrides, f"peft={method}", "run_dir=run")
    assert "resumed" in [event["event"] for event in resumed.data["history"]]
    for file in ("metrics.csv", "trail.jsonl", "checkpoints/best.safetensors", "adapter/adapter_model.safetensors"):
        assert Path("run", file).read_bytes() == (runs / "one" / method / file).read_bytes(), file


@pytest.mark.parametrize(
    "methods",
    [
        ["adalora"],
        pytest.param([name for name in SOME if name != "adalora"], marks=pytest.mark.exhaustive),
    ],
    ids=" ".join,
)
def test_two_devices_learn_what_one_does(runs, overrides, methods):
    (runs / "two.py").write_text(TRAIN)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "two.py"]
    ended = subprocess.run(
        [*torchrun, json.dumps(methods), json.dumps(overrides)],
        cwd=runs,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    wrong = []
    for method in methods:
        expected, found = (load_file(trained(runs / number / method)) for number in ("one", "two"))
        assert found.keys() == expected.keys()
        wrong += [
            (method, name, float((found[name] - tensor).abs().max()))
            for name, tensor in expected.items()
            if not torch.allclose(found[name], tensor, rtol=1e-3, atol=1e-5)
        ]
    assert not wrong


def trained(folder: Path) -> Path:
    return folder / "adapter" / "adapter_model.safetensors"
