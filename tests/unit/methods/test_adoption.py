"""What a training takes of an adapter that was made elsewhere, and what it says of the rest."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import logging
import os
import struct
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from peftlab.errors import ConfigError
from peftlab.methods.adalora import AdaLora
from peftlab.methods.adapters import Parallel
from peftlab.methods.combined import Combined
from peftlab.methods.labels import labels_of_config, save_labels
from peftlab.methods.library import LibraryMethod
from peftlab.methods.prefix import PrefixAndAdapter
from peftlab.methods.selection import BitFit, Full, Head, TopLayers
from peftlab.tasks.regression import Regression
from peftlab.tasks.task import Selection

INPUTS = {"input_ids": torch.tensor([[2, 7, 8, 9, 3]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
FOLDER = Path("adapter")
WEIGHTS, CONFIG = FOLDER / "adapter_model.safetensors", FOLDER / "adapter_config.json"
HEAD = "base_model.model.classifier."
POOLER = "base_model.model.bert.pooler.dense."


@pytest.fixture(autouse=True)
def _no_card(monkeypatch):
    """Nobody reads the card that the library writes beside an adapter, and that takes longer than the rest."""
    monkeypatch.setattr(peft.PeftModel, "create_or_update_model_card", lambda *_: None)


@pytest.fixture(autouse=True)
def _log(caplog):
    caplog.set_level(logging.INFO, logger="peftlab")


def method(peft_type="LORA", **options):
    kind = AdaLora if peft_type == "ADALORA" else LibraryMethod
    return kind(name="library", learning_rate=1e-3, peft_type=peft_type, **options)


def lora(**options):
    return method(**{"r": 4, "lora_alpha": 8, "target": ["query", "value"]} | options)


@pytest.fixture(scope="module")
def backbones(pretrained):
    """Return a maker of the backbone for a task; each is loaded once."""
    loaded = {}

    def load(task):
        key = task.head, tuple(task.labels)
        if key not in loaded:
            torch.manual_seed(1)
            loaded[key] = pretrained.load(task)
        return loaded[key]

    return load


@pytest.fixture
def begun(backbones):
    """Apply a method to a backbone for a task; returns the model and the context."""

    def make(method, task, **context):
        backbone = backbones(task)
        context = dataclasses.replace(backbone.context, **context)
        return method.apply(copy.deepcopy(backbone.model), context).eval(), context

    return make


@pytest.fixture
def ours(begun):
    """Save an adapter of a run of a task, with its labels or without; returns its tensors by name."""

    def make(method, task, labels=True):
        model, context = begun(method, task)
        randomise(model)
        FOLDER.mkdir()
        method.save(model, FOLDER, context)
        if labels:
            save_labels(task.labels, FOLDER)
        return {name: tensor.detach().clone() for name, tensor in method.saved(model).items()}

    return make


def randomise(model: nn.Module) -> None:
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)


@pytest.fixture(scope="module")
def plain(tiny_model):
    """Return a maker of a model of transformers; each is loaded once."""

    @functools.cache
    def load(head, labels):
        torch.manual_seed(4)
        return head.from_pretrained(tiny_model, num_labels=labels)

    return lambda *kind: copy.deepcopy(load(*kind))


@pytest.fixture
def theirs(plain):
    """Save an adapter of the peft library; returns its model."""

    def make(config, labels=2, head=AutoModelForSequenceClassification, **options):
        torch.manual_seed(4)
        model = peft.get_peft_model(plain(head, labels), config)
        randomise(model)
        model.save_pretrained(FOLDER, **options)
        return model.eval()

    return make


def edited(**tensors):
    """Change the saved tensors, by their names with _ for the dots; None takes one away."""
    stored = load_file(WEIGHTS) | tensors
    save_file({name: tensor for name, tensor in stored.items() if tensor is not None}, WEIGHTS)


def described(**keys):
    CONFIG.write_text(json.dumps(json.loads(CONFIG.read_text()) | keys))


def same_logits(first, second, atol=5e-6):
    with torch.no_grad():
        torch.testing.assert_close(first(**INPUTS).logits, second(**INPUTS).logits, atol=atol, rtol=0)


METHODS = {
    "lora": lora(),
    "full": Full(name="full", learning_rate=1),
    "head": Head(name="head", learning_rate=1),
    "top_layers": TopLayers(name="top_layers", learning_rate=1, layers="last:1"),
    "parallel": Parallel(name="parallel", learning_rate=1, bottleneck=4),
    "combined": Combined(
        name="both", learning_rate=1, first=BitFit(name="bitfit", learning_rate=1), second=lora(target="query")
    ),
}


class TestLabels:
    @pytest.mark.parametrize("name", METHODS)
    def test_rows_follow_the_names(self, name, ours, begun, classification, caplog):
        saved = ours(METHODS[name], classification(["a", "b", "c"]))
        model, context = begun(METHODS[name], classification(["c", "a", "b"]))
        assert METHODS[name].adopt(model, FOLDER, context) == []
        for key, tensor in METHODS[name].saved(model).items():
            rows = [2, 0, 1] if "classifier" in key else slice(None)
            assert torch.equal(tensor, saved[key][rows]), key
        assert not caplog.messages

    @pytest.mark.slow
    def test_those_of_tags_do(self, ours, begun, ner, caplog):
        saved = ours(lora(), ner(["LOC", "PER"]))
        model, context = begun(lora(), ner(["PER", "LOC"]))
        assert lora().adopt(model, FOLDER, context) == []
        assert torch.equal(lora().saved(model)[f"{HEAD}weight"], saved[f"{HEAD}weight"][[0, 3, 4, 1, 2]])
        assert not caplog.messages

    def test_labels_that_it_lacks_begin_anew_and_others_are_left_out(self, ours, begun, classification, caplog):
        saved = ours(lora(), classification(["a", "b", "c"]))[f"{HEAD}bias"]
        model, context = begun(lora(), classification(["d", "c", "a"]))
        before = lora().saved(model)[f"{HEAD}bias"].detach().clone()
        assert lora().adopt(model, FOLDER, context) == []
        assert torch.equal(lora().saved(model)[f"{HEAD}bias"], torch.stack([before[0], saved[2], saved[0]]))
        assert caplog.messages == [
            "adapter: its head has no rows for these labels, which begin anew: d",
            "adapter: the rows of its head for these labels are left out: b",
        ]

    def test_a_type_more_of_a_tagger(self, ours, begun, ner, caplog):
        saved = ours(lora(), ner(["LOC", "PER"]))
        model, context = begun(lora(), ner(["LOC", "ORG", "PER"]))
        lora().adopt(model, FOLDER, context)
        found = lora().saved(model)[f"{HEAD}weight"]
        assert torch.equal(found[[0, 1, 2, 5, 6]], saved[f"{HEAD}weight"])
        assert caplog.messages == ["adapter: its head has no rows for these labels, which begin anew: B-ORG, I-ORG"]

    def test_a_head_for_other_labels_is_not_taken(self, ours, begun, classification, caplog):
        ours(lora(), classification(["a", "b"]))
        model, context = begun(lora(), classification(["x", "y"]))
        before = lora().saved(model)[f"{HEAD}bias"].detach().clone()
        assert lora().adopt(model, FOLDER, context) == [f"{HEAD}bias", f"{HEAD}weight"]
        assert torch.equal(lora().saved(model)[f"{HEAD}bias"], before)
        assert caplog.messages == ["adapter: its head is for other labels, a, b; not taken"]

    def test_unknown_ones_are_taken_on_trust_where_they_are_as_many(self, ours, begun, classification, caplog):
        saved = ours(lora(), classification(["a", "b"]), labels=False)
        model, context = begun(lora(), classification(["b", "a"]))
        assert lora().adopt(model, FOLDER, context) == []
        assert torch.equal(lora().saved(model)[f"{HEAD}bias"], saved[f"{HEAD}bias"])
        told = "adapter: it does not name the labels of its head; they are taken for these, in this order: b, a"
        assert caplog.messages == [told]

    def test_and_not_where_they_are_more(self, ours, begun, classification, caplog):
        ours(lora(), classification(["a", "b", "c"]), labels=False)
        model, context = begun(lora(), classification(["a", "b"]))
        assert lora().adopt(model, FOLDER, context) == [f"{HEAD}bias", f"{HEAD}weight"]
        assert caplog.messages == ["adapter: its head has 3 rows for labels that it does not name; not taken"]

    @pytest.mark.parametrize(
        ("path", "content"),
        [
            ("record.json", {"data": {"labels": ["b", "a"]}}),
            ("adapter/config.json", {"id2label": {"1": "a", "0": "b"}}),
        ],
    )
    def test_other_places_that_name_them(self, path, content, ours, begun, classification, caplog):
        saved = ours(lora(), classification(["a", "b"]), labels=False)
        Path(path).write_text(json.dumps(content))
        model, context = begun(lora(), classification(["a", "b"]))
        lora().adopt(model, FOLDER, context)
        assert torch.equal(lora().saved(model)[f"{HEAD}bias"], saved[f"{HEAD}bias"].flip(0))
        assert not caplog.messages

    @pytest.mark.parametrize("content", ["[", '{"data": 3}', '{"data": {"labels": ["a", "a"]}}', "[" * 100_000])
    def test_a_record_that_names_none(self, content, ours, begun, classification, caplog):
        ours(lora(), classification(["a", "b"]), labels=False)
        Path("record.json").write_text(content)
        model, context = begun(lora(), classification(["a", "b"]))
        assert lora().adopt(model, FOLDER, context) == []
        assert "taken for these" in caplog.text

    @pytest.mark.parametrize("content", ["", "{}", '["a", 3]', '["a", "a"]', '["a"', "[" * 100_000])
    def test_a_damaged_file_of_them(self, content, ours, begun, classification):
        ours(lora(), classification(["a", "b"]))
        (FOLDER / "labels.json").write_text(content)
        model, context = begun(lora(), classification(["a", "b"]))
        with pytest.raises(ConfigError, match=r"labels\.json is damaged: it is not a list of distinct labels"):
            lora().adopt(model, FOLDER, context)

    def test_one_that_belongs_to_another_head(self, ours, begun, classification):
        ours(lora(), classification(["a", "b"]))
        save_labels(["a", "b", "c"], FOLDER)
        model, context = begun(lora(), classification(["a", "b"]))
        with pytest.raises(ConfigError, match="it names 3 labels, and its head has 2 rows"):
            lora().adopt(model, FOLDER, context)

    def test_a_head_without_labels_is_taken_whole(self, ours, begun):
        task = Regression(name="regression", selection=Selection(metric="rmse"))
        saved = ours(lora(), task)
        model, context = begun(lora(), task)
        assert lora().adopt(model, FOLDER, context) == []
        assert all(torch.equal(tensor, saved[name]) for name, tensor in lora().saved(model).items())

    def test_the_head_of_texts_is_none_of_words(self, theirs, begun, ner, caplog):
        theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]), labels=5)
        model, context = begun(lora(), ner())
        assert lora().adopt(model, FOLDER, context) == [f"{HEAD}bias", f"{HEAD}weight"]
        assert caplog.messages == ["adapter: its head is for SEQ_CLS, and this run's for TOKEN_CLS; not taken"]

    def test_where_only_the_size_of_the_last_layer_is_that_of_the_labels(self, begun, classification):
        """RoBERTa's kind of head: as many hidden units as labels do not make a layer the output."""
        labels = [f"l{n}" for n in range(32)]
        _, context = begun(lora(), classification(labels))
        assert context.output == "classifier"

    @pytest.mark.parametrize(
        ("names", "labels"),
        [
            ({"0": "neg", "1": "pos"}, ["neg", "pos"]),
            ({1: "pos", 0: "neg"}, ["neg", "pos"]),
            ({str(n): f"x{n}" for n in range(11)}, [f"x{n}" for n in range(11)]),
            ({"0": "LABEL_0", "1": "LABEL_1"}, None),
            ({"0": "LABEL_1", "1": "LABEL_0"}, None),
            ({"0": "a", "2": "b"}, None),
            ({"0": "a", "1": "a"}, None),
            ({"a": "0"}, None),
            (["a"], None),
            (None, None),
        ],
    )
    def test_labels_of_a_configuration(self, names, labels):
        assert labels_of_config({"id2label": names}) == labels


ALL = {"target": ["dense", "query"], "r": 4}


class TestTheRestOfTheHead:
    @pytest.mark.one_in(4, "slow")
    @pytest.mark.parametrize(
        ("config", "own"),
        [
            (peft.LoraConfig(r=4, target_modules="all-linear"), lora(target="all_linear")),
            (peft.LoraConfig(r=4, target_modules=["dense", "query"], use_dora=True), lora(**ALL, use_dora=True)),
            (peft.LoraConfig(r=4, target_modules=["dense", "query"], use_rslora=True), lora(**ALL, use_rslora=True)),
            (peft.LoraConfig(r=4, target_modules=["dense", "query"], bias="all"), lora(**ALL, bias="all")),
            (peft.LoraConfig(r=4, target_modules=["dense", "query"], bias="lora_only"), lora(**ALL, bias="lora_only")),
            (
                peft.LoraConfig(r=4, target_modules=["dense", "query"], rank_pattern={"pooler.dense": 2}),
                lora(**ALL, rank_pattern={"pooler.dense": 2}),
            ),
            (
                peft.LoraConfig(r=4, target_modules=["dense", "query"], alpha_pattern={"pooler.dense": 3}),
                lora(**ALL, alpha_pattern={"pooler.dense": 3}),
            ),
            (peft.LoHaConfig(r=4, target_modules=["dense", "query"]), method("LOHA", **ALL)),
            (peft.OFTConfig(oft_block_size=8, r=0, target_modules=["dense", "query"]), None),
            (peft.IA3Config(target_modules=["dense", "query"], feedforward_modules=["dense"]), None),
        ],
        ids=["lora", "dora", "rslora", "all", "lora_only", "ranks", "alphas", "loha", "oft", "ia3"],
    )
    def test_what_adapts_the_pooler_is_merged_into_it(self, config, own, theirs, begun, classification):
        config.task_type = "SEQ_CLS"
        own = (
            own
            or {
                "OFT": method("OFT", target=ALL["target"], oft_block_size=8, r=0),
                "IA3": method("IA3", target=ALL["target"], feedforward_modules=["dense"]),
            }[config.peft_type.value]
        )
        expected = theirs(config)
        model, context = begun(own, classification())
        assert own.adopt(model, FOLDER, context) == []
        same_logits(model, expected)

    def test_where_it_cannot_be_both_are_named(self, theirs, begun, classification):
        theirs(peft.VeraConfig(task_type="SEQ_CLS", r=4, target_modules=["dense", "query"]))
        own = method("VERA", **ALL)
        model, context = begun(own, classification())
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(ConfigError, match=r"its base_model\S*pooler\.dense\S+ cannot be merged into bert\.pooler"):
            own.adopt(model, FOLDER, context)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    def test_nor_into_a_pooler_that_the_weights_lack(self, theirs, begun, classification):
        theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["dense", "query"]))
        fresh = frozenset({"bert.pooler.dense.weight", "bert.pooler.dense.bias"})
        model, context = begun(lora(**ALL), classification(), fresh=fresh)
        with pytest.raises(ConfigError, match=r"into bert\.pooler\.dense\.weight: the pretrained model lacks it"):
            lora(**ALL).adopt(model, FOLDER, context)

    def test_nor_into_the_rows_of_labels(self, theirs, begun, classification):
        theirs(peft.LoraConfig(r=4, target_modules=["query", "classifier"]))
        own = lora(target="query")
        model, context = begun(own, classification())
        with pytest.raises(ConfigError, match=r"lora_A.weight cannot be merged into classifier.weight: its rows are"):
            own.adopt(model, FOLDER, context)

    def test_a_pooler_that_it_lacks_stays_as_pretrained(self, theirs, begun, classification):
        expected = theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
        model, context = begun(lora(), classification())
        assert lora().adopt(model, FOLDER, context) == [f"{POOLER}bias", f"{POOLER}weight"]
        assert {"bert.pooler.dense.weight", "classifier.weight"} & context.fresh == {"classifier.weight"}
        same_logits(model, expected)

    def test_layers_of_a_head_that_this_model_has_not_are_named(self, theirs, begun, classification, caplog):
        theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
        edited(**{f"{HEAD}dense.weight": torch.ones(3, 3)})
        model, context = begun(lora(), classification())
        lora().adopt(model, FOLDER, context)
        assert f"adapter: its head has layers that this model's has not; not taken: {HEAD}dense.weight" in caplog.text

    def test_another_shape_is_named(self, theirs, begun, classification, caplog):
        theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
        edited(**{f"{HEAD}weight": torch.ones(2, 16)})
        model, context = begun(lora(), classification())
        assert f"{HEAD}weight" in lora().adopt(model, FOLDER, context)
        assert f"adapter: not taken: {HEAD}weight, (2, 16) in the file, (2, 32) in the model" in caplog.messages


EMBEDDINGS = "base_model.model.bert.embeddings.word_embeddings.weight"


class TestTheRestOfTheFile:
    def test_frozen_weights_that_are_the_same(self, theirs, begun, classification):
        expected = theirs(
            peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]), save_embedding_layers=True
        )
        assert EMBEDDINGS in load_file(WEIGHTS)
        model, context = begun(lora(), classification())
        lora().adopt(model, FOLDER, context)
        same_logits(model, expected)

    @pytest.mark.parametrize("rows", [75, 80])
    def test_frozen_weights_that_are_others(self, rows, theirs, begun, classification):
        theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
        edited(**{EMBEDDINGS: torch.zeros(rows, 32)})
        model, context = begun(lora(), classification())
        with pytest.raises(ConfigError, match=rf"first {EMBEDDINGS}, \({rows}, 32\), only in the file"):
            lora().adopt(model, FOLDER, context)

    @pytest.mark.parametrize(
        "name", ["base_model.model.pre_classifier.weight", "x"]
    )  # a `score` the library names itself
    def test_a_head_of_another_name(self, name, theirs, begun, classification):
        theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
        edited(**{name: torch.zeros(2, 32)})
        model, context = begun(lora(), classification())
        with pytest.raises(ConfigError, match=rf"1 of its tensors do not fit .*, first {name}, \(2, 32\), only in the"):
            lora().adopt(model, FOLDER, context)

    @pytest.mark.one_in(4, "slow")
    @pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.int8])
    @pytest.mark.parametrize(
        "name", [f"{HEAD}bias", "base_model.model.bert.encoder.layer.0.attention.self.query.lora_"]
    )
    def test_numbers_of_another_kind_are_refused(self, dtype, name, theirs, begun, classification):
        theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
        name = next(key for key in load_file(WEIGHTS) if key.startswith(name))
        edited(**{name: load_file(WEIGHTS)[name].to(dtype)})
        model, context = begun(lora(), classification())
        before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        with pytest.raises(ConfigError, match=rf"{name} is of the type {dtype}, and the model's is torch.float32"):
            lora().adopt(model, FOLDER, context)
        assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())

    @pytest.mark.parametrize(
        ("dtype", "told"), [(torch.float16, False), (torch.bfloat16, False), (torch.float64, True)]
    )
    def test_other_precisions_are_read(self, dtype, told, theirs, begun, classification, caplog):
        expected = theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
        save_file({name: tensor.to(dtype) for name, tensor in load_file(WEIGHTS).items()}, WEIGHTS)
        model, context = begun(lora(), classification())
        lora().adopt(model, FOLDER, context)
        same_logits(model, expected, atol=0.05)
        assert ("in double precision, and are rounded" in caplog.text) == told

    def test_one_with_a_name_lies_a_folder_further_down(self, theirs, begun, classification):
        theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
        FOLDER.rename("kept")
        FOLDER.mkdir()
        Path("kept").rename(FOLDER / "mine")
        model, context = begun(lora(), classification())
        with pytest.raises(ConfigError, match=r"no adapter can be read there .*; there is one in 'mine' below it"):
            lora().adopt(model, FOLDER, context)
        lora().adopt(model, FOLDER / "mine", context)

    @pytest.mark.parametrize(
        ("theirs_is", "ours_is", "told"),
        [
            ("org/name", "hub:org/name@abc", False),
            ("/models/bert", "files:/models/bert", False),
            ("index:a==1", "index:a==1", False),
            ("org/other", "hub:org/name@abc", True),
            ("/models/bert", "index:a==1", True),
            (None, "index:a==1", False),
        ],
    )
    def test_another_model_is_told(self, theirs_is, ours_is, told, theirs, begun, classification, caplog):
        theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
        described(base_model_name_or_path=theirs_is)
        model, context = begun(lora(), classification(), model_origin=ours_is)
        lora().adopt(model, FOLDER, context)
        assert (f"it was trained on the model '{theirs_is}', and this run's is '{ours_is}'" in caplog.text) == told


def header(**tensors):
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


class TestDamage:
    @pytest.mark.one_in(4, "slow")
    @pytest.mark.parametrize(
        "content", ["[]", "null", '"text"', "3", "{", "", "[" * 100_000, '{"peft_type": ["LORA"]}']
    )
    def test_of_the_configuration(self, content, theirs, begun, classification):
        theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
        CONFIG.write_text(content)
        model, context = begun(lora(), classification())
        with pytest.raises(ConfigError, match=r"no adapter can be read there|it is of the method") as caught:
            lora().adopt(model, FOLDER, context)
        assert "\n" not in str(caught.value)

    @pytest.mark.one_in(4, "slow")
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x00" * 8,
            b"\xff" * 100,
            header(),
            header(a=3),
            header(a={"dtype": "F32", "shape": [2], "data_offsets": [0, 800]}),
            header(a={"dtype": "F31", "shape": [2], "data_offsets": [0, 8]}) + b"\x00" * 8,
            header(a={"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}) + b"\x00" * 8,
            header(**{"a\nb": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}) + b"\x00" * 8,
            b"version https://git-lfs.github.com/spec/v1\n",
        ],
    )
    def test_of_the_tensors(self, content, theirs, begun, classification):
        theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
        WEIGHTS.write_bytes(content)
        model, context = begun(lora(), classification())
        with pytest.raises(ConfigError, match=r"is damaged: |of its tensors do not fit") as caught:
            lora().adopt(model, FOLDER, context)
        assert str(caught.value).isprintable()

    def test_half_a_file(self, theirs, begun, classification):
        theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
        WEIGHTS.write_bytes(WEIGHTS.read_bytes()[:-100])
        model, context = begun(lora(), classification())
        with pytest.raises(ConfigError, match=r"adapter_model\.safetensors is damaged"):
            lora().adopt(model, FOLDER, context)

    @pytest.mark.one_in(4, "slow")
    @pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "labels.json"])
    @pytest.mark.parametrize("target", [None, "/dev/zero", "/dev/tty"])
    def test_what_is_no_file_is_not_waited_for(self, name, target, theirs, begun, classification):
        theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
        (FOLDER / name).unlink(missing_ok=True)
        os.symlink(target, FOLDER / name) if target else os.mkfifo(FOLDER / name)
        model, context = begun(lora(), classification())
        if name == "labels.json":  # as if there were none
            lora().adopt(model, FOLDER, context)
        else:
            with pytest.raises(ConfigError, match=f"no adapter can be read there|there is no {name}"):
                lora().adopt(model, FOLDER, context)

    def test_options_that_are_none(self, ours, begun, classification):
        ours(METHODS["parallel"], classification())
        described(options=3)
        model, context = begun(METHODS["parallel"], classification())
        with pytest.raises(ConfigError, match="its options are not a mapping"):
            METHODS["parallel"].adopt(model, FOLDER, context)


class TestOptions:
    @pytest.mark.parametrize(
        ("option", "value", "own"),
        [
            ("scaling", 2.0, METHODS["parallel"]),
            ("activation", "gelu", METHODS["parallel"]),
            ("bottleneck", 8, METHODS["parallel"]),
        ],
    )
    def test_what_decides_is_asked_for(self, option, value, own, ours, begun, classification):
        ours(own, classification())
        options = json.loads(CONFIG.read_text())["options"]
        described(options=options | {option: value})
        model, context = begun(own, classification())
        with pytest.raises(ConfigError, match=rf"set peft\.{option}={json.dumps(value)}$"):
            own.adopt(model, FOLDER, context)

    def test_an_option_that_is_not_marked_decides_whatever_its_name(self):
        class Scaled(Parallel):
            """A method whose function depends on an option with a beginner's name."""

            initial_scale: float = 1.0

        from peftlab.methods.method import spec

        scaled = spec(Scaled)
        one, two = (
            scaled(name="x", learning_rate=1, bottleneck=4, initial_scale=scale, layers=layers)
            for scale, layers in ((1.0, None), (2.0, [0]))
        )
        assert one.settings["initial_scale"] == 1.0
        assert "layers" not in one.settings
        assert one.differing(two.settings) == ["peft.initial_scale=2.0"]
        assert two.differing({"bottleneck": 4}) == ["peft.initial_scale=1.0"]  # it was not there yet: its default

    def test_adapters_made_before_options_were_marked_are_accepted(self):
        """Their options are those whose names said nothing of a beginning or a regularisation."""
        own = METHODS["combined"]
        old = {"first.layers": [0], "second.peft_type": "LORA", "second.target": "key", "second.learning_rate": 3}
        assert own.differing(own.settings | old) == []
        assert own.differing({"second.r": 2}) == ["peft.second.r=2"]

    def test_how_prefixes_began_makes_them_no_others(self):
        assert "prefix_std" not in PrefixAndAdapter.__abstractmethods__
        from peftlab.methods.mam import MixAndMatch

        one = MixAndMatch(name="mam", learning_rate=1, prefix=2, prefix_std=0.1, bottleneck=4)
        assert set(one.settings) == {"prefix", "bottleneck", "activation", "scaling"}

    @pytest.mark.parametrize(
        ("peft_type", "own", "theirs_is", "asked"),
        [
            ("LORA", {"r": 4}, {"use_rslora": True}, "+peft.use_rslora=true"),
            ("LORA", {"r": 4}, {"lora_dropout": 0.5, "init_lora_weights": "gaussian"}, None),
            ("LORA", {"r": 4}, {"init_lora_weights": "pissa"}, "+peft.init_lora_weights=.pissa."),
            ("LORA", {"r": 4, "use_dora": True}, {"use_dora": None}, "peft.use_dora=false"),
            ("MISS", {"r": 4}, {"init_weights": "bat"}, "+peft.init_weights=.bat."),
            ("PSOFT", {"r": 4}, {"ab_svd_init": "pissa_init"}, "+peft.ab_svd_init=.pissa_init."),
            ("OFT", {"oft_block_size": 8}, {"coft": True}, "+peft.coft=true"),
            ("ADALORA", {"init_r": 4, "target_r": 2}, {"tfinal": 3, "beta1": 0.1}, None),
            ("WAVEFT", {"n_frequency": 8}, {"wavelet_family": "db2"}, "+peft.wavelet_family=.db2."),
        ],
    )
    def test_of_the_library(self, peft_type, own, theirs_is, asked, begun, ner):
        own = method(peft_type, **own)
        model, _ = begun(own, ner())
        described_as = json.loads(json.dumps(model.peft_config["default"].to_dict(), default=str))
        described_as |= {"target_modules": ["query"], **theirs_is}
        description = {key: value for key, value in described_as.items() if value is not None}
        if asked is None:
            own.check_description(description, model)
        else:
            with pytest.raises(ConfigError, match=f"trained with other options; set {asked}$".replace("+", r"\+")):
                own.check_description(description, model)

    def test_options_of_a_newer_library_are_told(self, theirs, begun, classification, caplog):
        theirs(peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
        described(use_quux=True, quux_config={}, other_quux=None)
        model, context = begun(lora(), classification())
        lora().adopt(model, FOLDER, context)
        assert "adapter: some of its options are not known here, and not taken: use_quux=true" in caplog.messages

    @pytest.mark.parametrize("targets", [["query"], ["dense"], ["query", "value", "key"]])
    def test_modules_that_no_tensor_names(self, targets, theirs, begun, ner):
        """UniLoRA keeps one vector for all layers."""
        theirs(
            peft.UniLoraConfig(r=4, theta_d_length=16, target_modules=targets, task_type="TOKEN_CLS"),
            labels=5,
            head=AutoModelForTokenClassification,
        )
        own = method("UNILORA", r=4, theta_d_length=16, target=["query", "value"])
        model, context = begun(own, ner())
        with pytest.raises(ConfigError, match=r"it adapts other modules; set 'peft.target="):
            own.adopt(model, FOLDER, context)
