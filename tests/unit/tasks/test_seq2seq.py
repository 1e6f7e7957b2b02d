"""Encoder-decoders: what is encoded and cut, and that the loss is the models' own."""

from __future__ import annotations

import pytest
import torch

from peftlab.errors import ConfigError, DataError
from peftlab.generation.options import Generation
from peftlab.models.backbone import ModelSpec, fetch
from peftlab.sources import FilesSource
from peftlab.tasks.inputs.source_target import SourceTarget
from peftlab.tasks.limits import Limits
from peftlab.tasks.seq2seq import Seq2Seq
from peftlab.tasks.task import IGNORED, Selection

EXAMPLES = [
    SourceTarget("train:0", "the river flows through rome", "rome"),
    SourceTarget("train:1", "paris", "the capital of france", group="a"),
    SourceTarget("train:2", "what is it ?"),
]


def task_of(**options):
    return Seq2Seq(name="seq2seq", selection=Selection(metric="perplexity"), **options)


@pytest.fixture(scope="module", params=["t5", "bart"])
def loaded(request, language_model):
    """A model, and its processor."""
    return load(language_model(request.param))


def load(folder, task=None):
    pretrained = fetch(ModelSpec(name="tiny", source=FilesSource(path=folder)))
    return pretrained.backbone(task or task_of()).eval(), pretrained.processor("tokenizer")


def batch_of(task, processor, examples=EXAMPLES, max_tokens=64):
    task.bind(processor)
    encoded = task.encode(examples, processor, Limits(max_tokens, "truncate"))
    return task.collate(examples, encoded, range(len(examples))), encoded


def test_the_loss_is_that_of_the_model(loaded):
    model, processor = loaded
    task = task_of()
    batch, _ = batch_of(task, processor)
    labels = batch.targets["labels"]
    assert batch.weights.tolist() == [(row != IGNORED).sum() for row in labels] == [*batch.weights[:2].tolist(), 0]
    own = model.prepare_decoder_input_ids_from_labels(labels)
    assert torch.equal(own[labels != IGNORED], batch.inputs["decoder_input_ids"][labels != IGNORED])
    losses = task.losses(task.outputs(model, batch), batch)
    inputs = {name: tensor for name, tensor in batch.inputs.items() if name != "decoder_input_ids"}
    torch.testing.assert_close(losses.sum() / batch.weights.sum(), model(**inputs, labels=labels).loss.double())
    assert losses[2] == 0
    made = task.distributions(task.outputs(model, batch), batch)
    of_all = torch.nn.functional.cross_entropy(made.logits.transpose(1, 2), made.gold, reduction="none")
    torch.testing.assert_close(made.by_example(of_all, batch), losses)
    sums, numbers = task.log_probabilities(task.outputs(model, batch), batch)
    assert torch.equal(sums, -losses)
    assert numbers == batch.weights.tolist()


def test_both_sides_are_cut_and_counted(loaded):
    _, processor = loaded
    task, end = task_of(max_target_tokens=3), processor.tokenizer.eos_token_id
    batch, encoded = batch_of(task, processor, max_tokens=6)
    whole, _ = batch_of(task_of(), processor)
    ids, labels = batch.inputs["input_ids"], batch.targets["labels"]
    assert ids.shape[1] == 6
    assert ids[0, -1] == end  # a source ends, where a cut target does not
    assert torch.equal(ids[0, :5], whole.inputs["input_ids"][0, :5])
    assert torch.equal(labels[1], whole.targets["labels"][1, :3])
    assert end not in labels[1]
    lost = [task.lost(encoded, n) for n in range(3)]
    longer = [max(0, int(mask.sum()) - 6) for mask in whole.inputs["attention_mask"]]
    assert [one.get("lost_tokens", 0) for one in lost] == longer
    targets = [max(0, int(weight) - 3) for weight in whole.weights.tolist()]
    assert [one.get("lost_target_tokens", 0) for one in lost] == targets
    assert task.all_lost(encoded) == {
        "truncated texts": sum(map(bool, longer)),
        "truncated tokens": sum(longer),
        "texts without a token": 0,
        "truncated targets": sum(map(bool, targets)),
        "truncated target tokens": sum(targets),
    }
    with pytest.raises(DataError, match=r"max_tokens=1 leaves no room besides 1 special"):
        batch_of(task, processor, max_tokens=1)
    with pytest.raises(ConfigError, match=r"data.long=truncate"):
        task.encode(EXAMPLES, processor, Limits(64, "split"))


def test_a_prefix_stands_before_every_source(loaded):
    _, processor = loaded
    batch, _ = batch_of(task_of(prefix="what is "), processor, EXAMPLES[:1])
    text = processor.tokenizer.decode(batch.inputs["input_ids"][0], skip_special_tokens=True)
    assert text == f"what is {EXAMPLES[0].source}"
    assert {"prefix", "max_target_tokens"} <= Seq2Seq.encoded_by


def test_what_the_model_cannot_do_is_refused_before_training(language_model):
    bart, _ = load(language_model("bart"))
    task_of(max_target_tokens=256).check_model(bart)
    with pytest.raises(ConfigError, match=r"max_target_tokens=257: the decoder has 256 positions"):
        task_of(max_target_tokens=257).check_model(bart)
    with pytest.raises(ConfigError, match=r"max_new_tokens=256: the model has 256 positions"):
        task_of(generate=Generation(max_new_tokens=256)).check_model(bart)
    task_of(generate=Generation(max_new_tokens=256, at="never")).check_model(bart)
    t5, _ = load(language_model("t5"))
    task_of(max_target_tokens=1000, generate=Generation(max_new_tokens=1000)).check_model(t5)  # distances, no positions
    llama = fetch(ModelSpec(name="tiny", source=FilesSource(path=language_model("llama"))))
    with pytest.raises(ConfigError, match=r"no encoder-decoder.* task=causal_lm"):
        task_of().bind(llama.processor("tokenizer"))


def test_words_of_the_source_may_change_and_the_target_stays():
    task = task_of()
    (text,) = task.editable(EXAMPLES[0])
    edited = task.edited(EXAMPLES[0], [text.replaced({1: ("Seine",)})])
    assert (edited.source, edited.target) == ("the Seine flows through rome", "rome")
