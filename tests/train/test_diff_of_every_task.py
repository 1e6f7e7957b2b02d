"""``diff`` on finished runs of every task of ``conf/task/``, against the start and against another run."""

from __future__ import annotations

import json
import math
from pydoc import locate

import pytest

from peftlab import load
from peftlab.composing.compose import conf_dir
from peftlab.reading import plain_yaml
from peftlab.use.differing.diff import Settings

pytestmark = pytest.mark.slow

TASKS = sorted(path.stem for path in (conf_dir() / "task").glob("*.yaml"))
WRITES = ["task.generate.max_new_tokens=4"]
MODELS = {"image_classification": "vit", "causal_lm": "llama", "dpo": "llama", "prompt": "llama", "seq2seq": "t5"}
MODELS |= dict.fromkeys(("audio_classification", "speech_recognition"), "whisper")
OPTIONS = dict.fromkeys(("causal_lm", "seq2seq", "speech_recognition"), WRITES)
PRETRAINED = {"dpo", "causal_lm", "prompt", "seq2seq", "speech_recognition"}
"""Tasks whose head is in the pretrained weights: the start answers, too."""
NOT_JUDGED = {"masked_lm", "dpo"}
"""Without gold of their own, or scored against another model."""


@pytest.fixture(params=TASKS)
def name(request) -> str:
    return request.param


@pytest.mark.one_in(8, "exhaustive")
def test_every_task_is_compared(name, run_tiny, data_for, language_model):
    task = locate(plain_yaml.load((conf_dir() / "task" / f"{name}.yaml").read_text())["_target_"])
    options = [f"task={name}", *data_for(task), *OPTIONS.get(name, []), "budget.max_steps=3"]
    if name in MODELS:
        options.append(f"model.path={language_model(MODELS[name])}")
    first, second = (load(run_tiny(*options, f"seed={seed}", f"run_dir=run{seed}").folder) for seed in (0, 1))
    alone = first.diff(settings=Settings(examples=6))
    both = first.diff(second, Settings(examples=6))
    for found in (alone, both):
        assert found.examples == 6
        assert len(found.layers) >= 2
        assert all(layer.attention is not None for layer in found.layers)
        assert found.of_tokens == (first.parts.task.head.outputs != "text")
        json.dumps(found.document())
    assert both.cosines
    assert "hidden states" not in both.left_out
    for found, answered in ((alone, name in PRETRAINED), (both, True)):
        assert (found.logits is not None) == answered
        assert found.logits is None or math.isfinite(found.logits.shift)
        assert (found.answers is not None) == (answered and name not in NOT_JUDGED), found.left_out
        assert (found.answers is None) == ("answers" in found.left_out)
