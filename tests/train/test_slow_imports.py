"""What a process that only answers does not import."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys
from peftlab.cli import main
sys.argv = ["peftlab", "predict", sys.argv[1], "Ada Lovelace moved to Paris .", "--json"]
main()
slow = ["lightning", "hydra", "wandb", "torchmetrics", "scipy", "sklearn", "pandas", "matplotlib", "bitsandbytes"]
slow += ["torch._dynamo", "torch._inductor", "torch.distributed.tensor", "accelerate.accelerator"]
print(json.dumps([name for name in slow if name in sys.modules]))
import accelerate, scipy, torch
from torch.distributed.tensor import DTensor
print(json.dumps(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).tolist()))
print(json.dumps([accelerate.Accelerator.__name__, DTensor.__name__, scipy.__name__]))
"""


@pytest.mark.new_interpreter
def test_an_answer_needs_no_slow_import_and_each_works_afterwards(finished):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(finished.folder)], capture_output=True, text=True, timeout=500, check=False
    )
    assert ended.returncode == 0, ended.stderr
    answer, slow, compiled, names = map(json.loads, ended.stdout.splitlines())
    assert answer["text"]
    assert slow == []
    assert compiled == [2.0]
    assert names == ["Accelerator", "DTensor", "scipy"]
