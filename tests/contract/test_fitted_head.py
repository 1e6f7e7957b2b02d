"""With every method of ``conf/peft/``, the adapted model takes its logits from the head that is fitted."""

from __future__ import annotations

import copy

import pytest
import torch

from peftlab.composing.compose import conf_dir
from peftlab.errors import ConfigError
from peftlab.models.adapted_model import adapted_model
from peftlab.models.backbone import fetch

METHODS = sorted(path.stem for path in (conf_dir() / "peft").glob("*.yaml"))

pytestmark = pytest.mark.slow


@pytest.mark.one_in(5, "exhaustive")
@pytest.mark.parametrize("method", METHODS)
def test_its_logits_follow_the_fitted_head(spec, tiny_texts, method):
    parts = copy.copy(
        spec(
            "task=contrastive",
            "task.inverse_regularization=1e4",
            "data=csv",
            f"data.path={tiny_texts}",
            f"peft={method}",
        )
    )
    splits = parts.data.format.read({"train": tiny_texts / "train.csv"})
    parts.task.learn_labels(splits, None)
    pretrained = fetch(parts.model, parts.task)
    examples = splits["train"][:16]
    encoded = parts.task.encode(examples, pretrained.processor("tokenizer"), parts.data.limits)
    try:
        model, _ = adapted_model(parts, pretrained)
    except ConfigError as error:
        pytest.skip(str(error))
    model.eval()
    batch = parts.task.collate(examples, encoded, range(16))
    with torch.no_grad():
        outputs = parts.task.outputs(model, batch)
        parts.task.fit_head(model, [(outputs, batch)])
        fitted = parts.task.outputs(model, batch)
    assert torch.equal(fitted.embeddings, outputs.embeddings)
    assert torch.equal(fitted.logits.argmax(-1), batch.targets["labels"])
