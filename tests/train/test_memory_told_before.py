"""What a training needs of memory is told before its first step, and measuring it changes no bits."""

from __future__ import annotations

import json
from pydoc import locate

import pytest

from peftlab.composing.compose import conf_dir
from peftlab.reading import plain_yaml
from peftlab.training import outlook

pytestmark = pytest.mark.slow

CLASSES = {
    path.stem: locate(plain_yaml.load(path.read_text())["_target_"]) for path in sorted((conf_dir() / "task").iterdir())
}
TASKS = [name for name, task in CLASSES.items() if not task.generates]  # of the others it is always measured
MODELS = {"image_classification": "vit", "audio_classification": "whisper", "prompt": "llama"}


@pytest.mark.one_in(8, "exhaustive")
@pytest.mark.parametrize("name", TASKS)
def test_the_probe_changes_no_bits(name, run_tiny, data_for, language_model, monkeypatch, capsys, tmp_path):
    options = [f"task={name}", *data_for(CLASSES[name]), "budget.max_steps=2"]
    options += [f"model.path={language_model(MODELS[name])}"] if name in MODELS else []
    made = []
    for share in (0.0, 1e9):
        monkeypatch.setattr(outlook, "PROBED_SHARE", share)
        record = run_tiny(*options, f"run_dir={tmp_path / str(share)}")
        lines = (record.folder / "trail.jsonl").read_text().splitlines()[1:]
        points = [(point["step"], point["loss"], point["hashes"]) for point in map(json.loads, lines)]
        made.append((record.data["identity"], points, json.dumps(record.data["metrics"])))  # nan is nan there
        memory = record.data["cost"]["memory"]
        assert memory["expected_is"] == ("lower bound" if share == 0 else "estimate")
        # this process has run other tests: their peak is part of both
        assert 1 / 1.5 < memory["expected_gib"] / record.data["cost"]["peak_memory_gib"] < 1.5
    assert made[0] == made[1]
    bound, estimate = (line for line in capsys.readouterr().out.splitlines() if line.startswith("memory: "))
    assert "memory: at least " in bound
    assert bound.endswith(". On top come: activations")
    assert "activations 0.0" in estimate
