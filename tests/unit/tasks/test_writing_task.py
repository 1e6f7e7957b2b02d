"""When texts are written, what can select, and what contradicts itself."""

from __future__ import annotations

import pytest
import torch

from peftlab.errors import ConfigError
from peftlab.generation.options import Generation
from peftlab.models.backbone import ModelSpec, fetch
from peftlab.sources import FilesSource
from peftlab.tasks import writing_task
from peftlab.tasks.inputs.source_target import SourceTarget
from peftlab.tasks.limits import Limits
from peftlab.tasks.seq2seq import Seq2Seq
from peftlab.tasks.task import Selection

EXAMPLES = [SourceTarget("test:0", "paris", "rome"), SourceTarget("test:1", "the river", "france is")]


def task_of(at="final", metric="perplexity", **options):
    generate = Generation(at=at, max_new_tokens=5, **options)
    return Seq2Seq(name="seq2seq", selection=Selection(metric=metric), generate=generate)


@pytest.fixture(scope="module")
def model_and_processor(language_model):
    pretrained = fetch(ModelSpec(name="tiny", source=FilesSource(path=language_model("t5"))))
    return pretrained.backbone(task_of()).eval(), pretrained.processor("tokenizer")


def answers_of(task, model, processor, final, examples=EXAMPLES):
    task.bind(processor)
    encoded = task.encode(examples, processor, Limits(64, "truncate"))
    batch = task.collate(examples, encoded, range(len(examples)))
    with torch.no_grad():
        return task.answers(task.outputs(model, batch), batch, model, final), batch


def test_only_what_every_validation_has_selects():
    assert task_of().watched == ["perplexity", "loss"]
    assert task_of("always").watched == list(task_of().directions)
    assert task_of("never").watched == ["perplexity", "loss"] == list(task_of("never").directions)
    assert task_of("always", "bleu").selection.mode == "max"
    for at in ("final", "never"):
        with pytest.raises(ConfigError, match=r"'bleu'.*at=always, or select by perplexity or loss"):
            task_of(at, "bleu")
    with pytest.raises(ConfigError, match=r"'blue' is no score"):
        task_of("always", "blue")


def test_a_missing_extra_is_named_unless_nothing_is_written(monkeypatch):
    def missing():
        raise ConfigError("pip install")

    monkeypatch.setattr(writing_task, "check_extra", missing)
    task_of("never")
    with pytest.raises(ConfigError, match="pip install"):
        task_of()


def test_texts_are_written_when_the_options_say_so(model_and_processor):
    for at, final, writes in (
        ("final", True, True),
        ("final", False, False),
        ("always", False, True),
        ("never", True, False),
    ):
        answers, _ = answers_of(task_of(at), *model_and_processor, final)
        for answer, example in zip(answers, EXAMPLES, strict=True):
            assert (answer["id"], answer["input"], answer["gold"]) == (example.id, example.source, example.target)
            assert answer["log_probability"] < 0 < answer["tokens"]
            assert isinstance(answer["predicted"], str) == writes
            assert (answer["stopped"] is None, answer["written_tokens"] is None) == (not writes, not writes)


def test_without_gold_nothing_but_texts_is_computed(model_and_processor, monkeypatch):
    model, processor = model_and_processor
    task = task_of("never", do_sample=True)
    _, batch = answers_of(task, model, processor, True)
    monkeypatch.setattr(task, "outputs", None)
    written = task.answers_without_gold(batch, model)
    assert all(isinstance(one["predicted"], str) for one in written)
    assert task.reply(EXAMPLES[0], written[0]) == {"written": written[0]["predicted"], "stopped": written[0]["stopped"]}
    _, alone = answers_of(task_of("never", do_sample=True), model, processor, True, EXAMPLES[1:])
    assert "".join(task.stream(alone, model)) == written[1]["predicted"]


def test_answers_that_contradict_themselves_or_another_computation_are_found(model_and_processor):
    task = task_of()
    (one, other), _ = answers_of(task, *model_and_processor, True)
    assert task.is_consistent(one, {})
    for wrong in ({"written_tokens": 6}, {"stopped": not one["stopped"]}, {"predicted": None}):
        assert not task.is_consistent(one | wrong, {})
    assert task.is_consistent(one | {"stopped": True, "written_tokens": 2}, {})
    assert task.is_consistent(one | {"predicted": None}, {}) == task_of("always").is_consistent(
        one | {"predicted": None}, {}
    )
    assert task.agree(one, one | {"predicted": None}, 1e-6)
    for wrong in ({"predicted": "x"}, {"log_probability": one["log_probability"] - 0.1}, {"tokens": 9}):
        assert not task.agree(one, one | wrong, 1e-6)
    assert task.agree(one, one | {"predicted": "x"}, 0.1)  # in bf16, rounding decides on tokens
    assert not task.agree(one, other, 0.1)


def test_an_exported_model_has_the_options(model_and_processor):
    model, processor = model_and_processor
    task = task_of(num_beams=2, repetition_penalty=1.5)
    before = model.generation_config
    try:
        task.prepare_export(model, processor)
        config = model.generation_config
        assert (config.num_beams, config.repetition_penalty, config.max_new_tokens) == (2, 1.5, 5)
    finally:
        model.generation_config = before
