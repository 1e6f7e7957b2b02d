"""Intents and slots: two heads in one layer, what is learnt of the labels, and what is read off the logits."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoTokenizer

from peftlab.data.augmentation.augmentation import Material
from peftlab.data.augmentation.context import Context
from peftlab.errors import ConfigError, DataError
from peftlab.tasks.inputs.utterances import Utterance
from peftlab.tasks.joint import Joint
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import IGNORED, Selection

UTTERANCES = [
    Utterance("train:0", ["maria", "moved", "to", "new", "york"], ["B-PER", "O", "O", "B-LOC", "I-LOC"], intent="move"),
    Utterance("train:1", ["nothing", "happened", "today"], ["O", "O", "O"], intent="nothing"),
    Utterance("train:2", ["rome"], ["B-LOC"], intent="move"),
]


@pytest.fixture(scope="module")
def processor(tiny_model):
    return Processor("tokenizer", AutoTokenizer.from_pretrained(tiny_model))


def task(members=UTTERANCES, declared=None, **options):
    made = Joint(name="joint", selection=Selection(metric="sentence_accuracy"), **options)
    lined = [Utterance(one.id, one.words, one.tags, "a", [1] * len(one.words), intent=one.intent) for one in members]
    made.learn_labels({"train": lined}, declared)
    return made


def batch_of(joint, processor, members=UTTERANCES, max_tokens=40):
    encoded = joint.encode(members, processor, Limits(max_tokens, "split"))
    return joint.collate(members, encoded, range(len(members)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("max_tokens", [40, 8])  # and utterances in several rows
def test_one_layer_is_two_heads_on_the_same_weights(processor, pretrained, smoothing, max_tokens):
    """The logits and the loss are those of a layer for intents and a layer for tags over the same hidden states."""
    joint = task(slot_weight=0.7, label_smoothing=smoothing)
    torch.manual_seed(0)
    model = pretrained.backbone(joint).eval()
    batch = batch_of(joint, processor, max_tokens=max_tokens)
    with torch.no_grad():
        outputs, states = model(**batch.inputs), model.base_model(**batch.inputs).last_hidden_state
    layer, tags = model.classifier, 2 * len(joint.types) + 1
    of_tags = F.linear(states, layer.weight[:tags], layer.bias[:tags])
    of_intents = F.linear(states[:, 0], layer.weight[tags:], layer.bias[tags:])
    assert of_intents.shape[-1] == len(joint.intents) == 2
    torch.testing.assert_close(outputs.logits[..., :tags], of_tags)
    torch.testing.assert_close(outputs.logits[:, 0, tags:], of_intents)
    losses = []
    for n, one in enumerate(UTTERANCES):
        rows = (batch.rows == n).nonzero()[:, 0]
        intent = torch.tensor(joint.intents.index(one.intent))
        labels = batch.targets["labels"][rows]
        words = of_tags[rows][labels != IGNORED]
        gold = torch.tensor([joint.labels.index(tag) for tag in one.tags])
        losses.append(
            F.cross_entropy(of_intents[rows[0]], intent, label_smoothing=smoothing)
            + 0.7 * F.cross_entropy(words, gold, label_smoothing=smoothing)
        )
    torch.testing.assert_close(joint.losses(outputs, batch), torch.stack(losses))
    if not smoothing:
        parts = joint.distributions(outputs, batch)
        entropies = F.cross_entropy(parts.logits.flatten(0, 1), parts.gold.flatten(), reduction="none")
        torch.testing.assert_close(parts.by_example(entropies.view_as(parts.gold), batch), torch.stack(losses))
        torch.testing.assert_close(joint.divergences(outputs, outputs, batch), torch.zeros(3))


def test_the_answer_is_that_of_each_head(processor):
    joint = task()
    batch = batch_of(joint, processor)
    assert joint.labels == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER", "intent/move", "intent/nothing"]
    logits = torch.zeros(*batch.inputs["input_ids"].shape, len(joint.labels))
    logits[..., 5:] = 9  # at words, the intents are no labels
    logits[:, 0, 6], logits[..., 1] = 10, 3
    answers = joint.answers(SimpleNamespace(logits=logits), batch, None, final=True)
    assert [answer["predicted"]["intent"] for answer in answers] == ["nothing"] * 3
    assert answers[0]["predicted"]["tags"] == ["B-LOC"] * 5
    assert answers[0]["slots"][0] == {"slot": "LOC", "start": 0, "end": 1, "text": "maria"}
    kept = joint.kept(UTTERANCES[0], answers[0])
    assert list(kept["probabilities"][0]) == ["move", "nothing"]
    assert list(kept["probabilities"][1]) == joint.labels[:5]
    assert joint.is_consistent(kept, {})
    for wrong in ({"intent": "move", "tags": ["B-LOC"] * 5}, {"intent": "nothing", "tags": ["O"] + ["B-LOC"] * 4}):
        assert not joint.is_consistent(kept | {"predicted": wrong}, {})
        assert not joint.agree(kept, kept | {"predicted": wrong}, 1e-3)
    assert joint.agree(kept, answers[0], 1e-3)


def test_slots_of_a_text_are_slices_of_it(processor):
    joint = task()
    example = joint.from_input({"text": "Maria moved, to New York!"}, "text:0")
    batch = batch_of(joint, processor, [example])
    assert batch.weights.tolist() == [0]
    logits = torch.zeros(*batch.inputs["input_ids"].shape, len(joint.labels))
    assert joint.losses(SimpleNamespace(logits=logits), batch).tolist() == [0]
    places = (batch.targets["labels"] != IGNORED).nonzero()[:, 1]
    words = batch.host["words"][0]
    for tag, word in ((1, "New"), (2, "York")):
        logits[0, places[words.index(example.words.index(word))], tag] = 5
    (answer,) = joint.answers(SimpleNamespace(logits=logits), batch, None, final=True)
    assert joint.reply(example, answer)["slots"] == [{"slot": "LOC", "start": 16, "end": 24, "text": "New York"}]


def test_labels_may_be_declared():
    declared = ["intent/nothing", "intent/move", "slot/PER", "slot/LOC"]
    joint = task(declared=declared)
    assert (joint.intents, joint.types) == (["nothing", "move"], ["PER", "LOC"])
    assert joint.declared_labels == declared
    for names, message in (
        (["move"], "'move' is neither an intent nor a slot. Write intent/move or slot/move"),
        (["slot/PER", "slot/LOC"], "declare intents and slots"),
    ):
        with pytest.raises(ConfigError, match=message):
            task(declared=names)
    with pytest.raises(DataError, match="a:1: unknown intent 'move'"):
        task(declared=["intent/nothing", "intent/more", "slot/PER", "slot/LOC"])
    with pytest.raises(DataError, match="a:1: unknown label 'B-PER'"):
        task(declared=["intent/nothing", "intent/move", "slot/LOC"])
    with pytest.raises(DataError, match="fewer than two intents"):
        task(UTTERANCES[2:])


def test_edits_keep_the_slots_and_the_intent():
    joint = task()
    for one in UTTERANCES:
        assert joint.edited(one, joint.editable(one)) == one


def test_slots_move_into_an_utterance_of_the_same_intent():
    said = [("rain in rome", "weather"), ("sun over oslo", "weather"), ("time in bonn", "clock")]
    joint, recombines = task(), Context()
    made = [Utterance(words, words.split(), ["O", "O", "B-LOC"], intent=intent) for words, intent in said]
    texts = [joint.editable(one)[0] for one in made]
    recombines.prepare(Material(texts, None, None))
    edits = [{recombines.edit(text, np.random.default_rng(n)).text for n in range(20)} for text in texts]
    assert edits == [{"rain in rome", "sun over rome"}, {"sun over oslo", "rain in oslo"}, {"time in bonn"}]
