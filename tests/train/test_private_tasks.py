"""Private runs of tasks whose models write, or compare with others: the gradients of their examples are told apart."""

from __future__ import annotations

from pydoc import locate

import pytest

from peftlab.composing.compose import conf_dir
from peftlab.reading import plain_yaml
from peftlab.runs.folder import RunFolder
from peftlab.use.check import check

pytestmark = pytest.mark.slow

pytest.importorskip("opacus")

OPTIONS = {
    "causal_lm": ["task.packing=off"],
    "dpo": [],
    "masked_lm": [],
    "prompt": ["data.labels=[compare,hire,move,nothing,report]"],
    "seq2seq": [],
}
MODELS = {"causal_lm": "llama", "dpo": "llama", "prompt": "llama", "seq2seq": "t5"}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", OPTIONS)
def test_gradients_of_single_examples_are_found_in_one_pass(name, run_tiny, data_for, language_model):
    task = locate(plain_yaml.load((conf_dir() / "task" / f"{name}.yaml").read_text())["_target_"])
    options = [f"task={name}", *data_for(task), *OPTIONS[name], "budget.max_steps=4", "privacy=dp"]
    if name in MODELS:
        options.append(f"model.path={language_model(MODELS[name])}")
    run = run_tiny(*options)
    section = run.data["privacy"]
    assert section["gradients"] in ("hooks", "vmap"), section["other_ways"]
    assert section["disagreement"] <= 1e-5
    assert section["weights_moved"] is True
    assert section["not_finite"] == 0
    assert check(RunFolder(run)).causes == []
