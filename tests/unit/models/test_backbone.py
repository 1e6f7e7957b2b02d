from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoTokenizer,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2ForTokenClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from peftlab.errors import ConfigError, SourceError
from peftlab.models.backbone import (
    ModelSpec,
    Pretrained,
    fetch,
    head_of,
    output_of,
)
from peftlab.models.model_files import GENERATION_FILES, MODEL_NOTES
from peftlab.models.positions import check_length, positions
from peftlab.sources import FilesSource, HubSource


def pretrained_in(folder: Path, task=None, **options):
    return fetch(ModelSpec(name="model", source=FilesSource(path=folder), **options), task)


def dropouts(model: nn.Module) -> dict[str, float]:
    return {name: module.p for name, module in model.named_modules() if isinstance(module, nn.Dropout)}


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


class TestBackbone:
    def test_it_is_the_pretrained_model_with_a_new_head(self, pretrained, tiny_model, ner):
        task = ner(["LOC", "ORG", "PER"])
        model = pretrained.backbone(task)
        stored = load_file(tiny_model / "model.safetensors")
        encoder = model.bert.state_dict()
        assert set(encoder) == {name for name in stored if not name.startswith("pooler.")}
        assert all(torch.equal(tensor, stored[name]) for name, tensor in encoder.items())
        assert model.classifier.weight.shape == (7, 32)
        assert model.config.id2label == dict(enumerate(task.labels))
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}

    def test_for_whole_texts_it_comes_with_its_pooler(self, pretrained, tiny_model, classification):
        task = classification(["a", "b", "c"])
        model = pretrained.backbone(task)
        stored = load_file(tiny_model / "model.safetensors")
        assert all(torch.equal(tensor, stored[name]) for name, tensor in model.bert.state_dict().items())
        assert model.classifier.weight.shape == (3, 32)
        assert model.config.id2label == {0: "a", 1: "b", 2: "c"}

    def test_weights_without_a_pooler_will_do(self, folder, classification):
        tensors = load_file(folder / "model.safetensors")
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")}
        assert len(kept) == len(tensors) - 2
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
        model = pretrained_in(folder).backbone(classification())
        assert model.bert.pooler.dense.weight.isfinite().all()

    def test_weights_stored_in_half_precision_become_fp32(self, folder, ner):
        tensors = load_file(folder / "model.safetensors")
        halves = {name: tensor.bfloat16() for name, tensor in tensors.items()}
        save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
        model = pretrained_in(folder).backbone(ner())
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}

    @pytest.mark.parametrize("attention", ["eager", "sdpa"])
    def test_the_implementation_of_attention(self, tiny_model, ner, attention):
        model = pretrained_in(tiny_model, attention=attention).backbone(ner())
        assert model.config._attn_implementation == attention

    @pytest.mark.parametrize("preferred", ["eager", "sdpa"])
    def test_attention_left_open_is_what_is_preferred_where_the_architecture_has_it(
        self, tiny_model, ner, monkeypatch, preferred
    ):
        model = pretrained_in(tiny_model).backbone(ner(), preferred)
        assert model.config._attn_implementation == preferred
        monkeypatch.setattr(type(model), "_supports_sdpa", False)
        assert pretrained_in(tiny_model).backbone(ner(), preferred).config._attn_implementation == "eager"

    def test_the_seed_decides_the_head(self, pretrained, ner):
        heads = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            heads.append(pretrained.backbone(ner()).classifier.weight)
        assert torch.equal(heads[0], heads[1])
        assert not torch.equal(heads[0], heads[2])


CLASSIFIERS = {"ner": "AutoModelForTokenClassification", "classification": "AutoModelForSequenceClassification"}


class TestPretrainedHeads:
    """A folder with a head of its own, as a run exports it or somebody else has fine-tuned it."""

    @pytest.fixture
    def with_head(self, tiny_model, folder):
        """Give the model a head for some labels; returns what it has learnt."""

        def make(kind, labels, **changes):
            names = {"id2label": dict(enumerate(labels)), "label2id": {label: n for n, label in enumerate(labels)}}
            model = getattr(transformers, CLASSIFIERS[kind]).from_pretrained(tiny_model, num_labels=len(labels))
            torch.nn.init.normal_(model.classifier.bias)
            model.config.update(names)
            model.save_pretrained(folder)
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(config | changes))
            return model.classifier

        return make

    @pytest.mark.one_in(3, "slow")
    @pytest.mark.parametrize(
        ("stored", "labels", "rows", "notes"),
        [
            ("abc", "abc", [0, 1, 2], []),
            ("abc", "cab", [2, 0, 1], []),
            ("ab", "bac", [1, 0, None], ["its head has no rows for these labels, which begin anew: c"]),
            ("abcd", "da", [3, 0], ["the rows of its head for these labels are left out: b, c"]),
            (
                "abx",
                "bay",
                [1, 0, None],
                [
                    "its head has no rows for these labels, which begin anew: y",
                    "the rows of its head for these labels are left out: x",
                ],
            ),
            ("xyz", "abc", [None] * 3, ["its head is for other labels, x, y, z; not taken"]),
            ("wxyz", "abc", [None] * 3, ["its head is for other labels, w, x, y, z; not taken"]),
        ],
    )
    def test_rows_follow_the_names(self, with_head, folder, classification, stored, labels, rows, notes):
        theirs = with_head("classification", list(stored))
        model, context, told = pretrained_in(folder).load(classification(list(labels)))
        for own, row in enumerate(rows):
            same = [torch.equal(model.classifier.bias[own], bias) for bias in theirs.bias]
            assert same == [n == row for n in range(len(stored))]
            assert row is None or torch.equal(model.classifier.weight[own], theirs.weight[row])
        assert model.classifier.weight.isfinite().all()
        assert told == notes
        assert bool(context.fresh) == (rows == [None] * len(rows))

    def test_those_of_tags_do(self, with_head, folder, ner):
        theirs = with_head("ner", ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"])
        model, _, notes = pretrained_in(folder).load(ner(["PER", "LOC"]))
        assert torch.equal(model.classifier.weight, theirs.weight[[0, 3, 4, 1, 2]])
        assert notes == []

    def test_placeholders_are_taken_on_trust(self, with_head, folder, classification):
        theirs = with_head("classification", ["LABEL_0", "LABEL_1"])
        model, _, notes = pretrained_in(folder).load(classification(["a", "b"]))
        assert torch.equal(model.classifier.weight, theirs.weight)
        assert notes == ["it does not name the labels of its head; they are taken for these, in this order: a, b"]

    def test_and_not_where_they_are_more(self, with_head, folder, classification):
        with_head("classification", ["LABEL_0", "LABEL_1", "LABEL_2"])
        _, context, notes = pretrained_in(folder).load(classification(["a", "b"]))
        assert notes == ["its head has 3 rows for labels that it does not name; not taken"]
        assert context.fresh == {"classifier.weight", "classifier.bias"}

    @pytest.mark.parametrize("labels", [["neg", "pos"], ["LABEL_0", "LABEL_1"], ["neg", "pos", "neutral"]])
    def test_that_of_words_is_none_of_texts(self, with_head, folder, classification, labels):
        theirs = with_head("ner", labels)
        model, _, (note,) = pretrained_in(folder).load(classification(["neg", "pos"]))
        assert not torch.isin(model.classifier.bias, theirs.bias).any()
        assert (
            note == "it has the head of BertForTokenClassification, which is of another kind than this run's; not taken"
        )

    def test_nor_is_that_of_choices(self, tiny_model, folder, classification):
        transformers.BertForMultipleChoice.from_pretrained(tiny_model).save_pretrained(folder)
        _, context, (note,) = pretrained_in(folder).load(classification())
        assert "it has the head of BertForMultipleChoice" in note
        assert "classifier.weight" in context.fresh

    def test_a_layer_of_it_in_another_shape_is_named(self, folder, classification):
        tensors = load_file(folder / "model.safetensors") | {"pooler.dense.weight": torch.ones(16, 32)}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        _, context, notes = pretrained_in(folder).load(classification())
        assert notes == ["of its head, bert.pooler.dense.weight are of another shape; not taken"]
        assert "bert.pooler.dense.weight" in context.fresh

    def test_names_are_not_believed_where_they_are_not_as_many_as_rows(self, with_head, folder, classification):
        with_head("classification", ["a", "b"], id2label={"0": "a", "1": "b", "2": "c"})
        _, _, (note,) = pretrained_in(folder).load(classification(["a", "b"]))
        assert "does not name the labels" in note

    def test_without_one_nothing_is_said(self, pretrained, classification, ner):
        for task in (classification(), ner()):
            backbone = pretrained.load(task)
            assert backbone.notes == []
            assert backbone.context.labels == tuple(task.labels)
            assert backbone.context.fresh == {"classifier.weight", "classifier.bias"}

    def test_a_head_for_several_labels_at_once_becomes_one_for_one(self, with_head, folder, classification, ner):
        """The configuration says so to transformers' pipelines."""
        with_head("classification", ["a", "b"], problem_type="multi_label_classification")
        model = pretrained_in(folder).backbone(classification(["a", "b"]))
        assert model.config.problem_type == "single_label_classification"

    def test_the_layer_before_it_stays_as_it_is(self, folder, classification):
        config = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        names = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
        theirs = RobertaForSequenceClassification(RobertaConfig(vocab_size=75, **config, **names))
        theirs.save_pretrained(folder)
        model, context, notes = pretrained_in(folder).load(classification(["b", "a"]))
        assert context.output == "classifier.out_proj"
        assert torch.equal(model.classifier.dense.weight, theirs.classifier.dense.weight)
        assert torch.equal(model.classifier.out_proj.weight, theirs.classifier.out_proj.weight.flip(0))
        assert notes == []


class TestDropout:
    def test_without_a_wish_it_is_as_pretrained(self, tiny_model, ner):
        assert set(dropouts(pretrained_in(tiny_model).backbone(ner())).values()) == {0.1}

    def test_each_key_reaches_its_modules(self, tiny_model, ner):
        options = {"dropout": 0.25, "attention_dropout": 0.35, "head_dropout": 0.45}
        found = dropouts(pretrained_in(tiny_model, **options).backbone(ner()))
        attention = {name for name in found if name.endswith("attention.self.dropout")}
        assert len(attention) == 2
        assert {found[name] for name in attention} == {0.35}
        assert found["dropout"] == 0.45
        others = found.keys() - attention - {"dropout"}
        assert {"bert.embeddings.dropout", "bert.encoder.layer.0.output.dropout"} < others
        assert {found[name] for name in others} == {0.25}

    def test_zero_is_a_wish(self, tiny_model, ner):
        options = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0}
        assert set(dropouts(pretrained_in(tiny_model, **options).backbone(ner())).values()) == {0.0}

    def test_the_head_follows_the_rest_where_it_is_not_named(self, tiny_model, ner):
        assert dropouts(pretrained_in(tiny_model, dropout=0.25).backbone(ner()))["dropout"] == 0.25

    def test_an_architecture_that_lacks_the_key(self, folder, ner):
        transformers.LlamaModel(transformers.LlamaConfig(**BERT)).save_pretrained(folder)
        with pytest.raises(ConfigError) as error:
            pretrained_in(folder, dropout=0.2).backbone(ner())
        assert str(error.value) == "model.dropout=0.2: llama has no such dropout; leave it null"
        pretrained_in(folder).backbone(ner())

    @pytest.mark.parametrize("kind", ["gpt2", "t5"])
    def test_the_keys_of_language_models(self, kind, language_model, ner):
        rates = dropouts(pretrained_in(language_model(kind), dropout=0.2).backbone(ner()))
        below_the_head = {name: rate for name, rate in rates.items() if "." in name and "attn_dropout" not in name}
        assert len(below_the_head) > 4
        assert set(below_the_head.values()) == {0.2}

    def test_it_is_set_even_where_a_head_looks_at_another_key(self, folder, ner):
        """DistilBERT's configuration has one for the heads of sentences only."""
        config = DistilBertConfig(vocab_size=75, dim=8, n_layers=1, n_heads=1, hidden_dim=8, seq_classif_dropout=0.2)
        DistilBertModel(config).save_pretrained(folder)
        assert dropouts(pretrained_in(folder, head_dropout=0.4).backbone(ner()))["dropout"] == 0.4


def test_a_mistake_in_our_own_code_is_not_blamed_on_the_folder(tiny_model, ner, monkeypatch):
    monkeypatch.setattr(Pretrained, "_set_dropout", lambda *_: {}["nothing"])
    with pytest.raises(KeyError, match="nothing"):
        pretrained_in(tiny_model).backbone(ner())


def load(folder, ner) -> None:
    pretrained = pretrained_in(folder)
    pretrained.tokenizer()
    pretrained.backbone(ner())


class TestFolders:
    def error(self, folder, ner) -> str:
        with pytest.raises(SourceError) as caught:
            load(folder, ner)
        message = str(caught.value)
        assert message.startswith(f"{folder}: ")
        assert "\n" not in message
        return message.removeprefix(f"{folder}: ")

    def test_no_config(self, folder, ner):
        (folder / "config.json").unlink()
        assert self.error(folder, ner).startswith("no config.json in the model's folder")

    def test_no_weights(self, folder, ner):
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(b"")
        assert self.error(folder, ner).startswith("no model.safetensors in the model's folder; save the weights")

    def test_no_tokenizer(self, folder, ner):
        """Transformers would make one of five special tokens, for which every word is unknown."""
        for path in folder.glob("tokenizer*"):
            path.unlink()
        assert "tokenizer" in self.error(folder, ner)

    def test_a_vocabulary_alone_is_a_tokenizer(self, folder, tokenizer):
        for path in folder.glob("tokenizer*"):
            path.unlink()
        by_id = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
        (folder / "vocab.txt").write_text("\n".join(by_id) + "\n")
        assert pretrained_in(folder).tokenizer()("Paris")["input_ids"] == tokenizer("Paris")["input_ids"]

    @pytest.mark.parametrize("content", ["{", '{"model_type": "no-such-model"}'])
    def test_a_config_that_names_no_model(self, folder, ner, content):
        (folder / "config.json").write_text(content)
        assert self.error(folder, ner)

    def test_a_config_that_names_no_text_model(self, folder, ner):
        (folder / "config.json").write_text('{"model_type": "vit"}')
        with pytest.raises(ConfigError, match="no AutoModelForTokenClassification for the architecture vit"):
            pretrained_in(folder).backbone(ner())

    @pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", None])
    def test_damaged_weights(self, folder, ner, content):
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100] if content is None else content)
        assert self.error(folder, ner).startswith("the model cannot be loaded: ")

    def test_weights_that_lack_tensors(self, folder, ner):
        tensors = load_file(folder / "model.safetensors")
        del tensors["encoder.layer.1.output.dense.weight"], tensors["encoder.layer.1.output.dense.bias"]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        assert self.error(folder, ner) == (
            "2 tensors of BertForTokenClassification are not in the weights, "
            "first bert.encoder.layer.1.output.dense.bias; is this the whole model? They are those of BertModel"
        )

    def test_weights_of_another_shape(self, folder, ner):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 99}))
        assert self.error(folder, ner)

    def test_no_folder(self, tmp_path):
        with pytest.raises(SourceError, match="No such file or folder"):
            pretrained_in(tmp_path / "nowhere")


class TestHostileFolders:
    """What lies in a model's folder is data: none of it is run, and nothing outside of it is read."""

    @pytest.fixture
    def evil(self, folder) -> Path:
        """The model with a module of its own beside it, which leaves a file when it is imported."""
        (folder / "evil.py").write_text(
            f"from pathlib import Path\nPath({str(folder / 'imported')!r}).touch()\n"
            "from transformers import BertConfig as Evil\n"
        )
        return folder

    def refused(self, folder, ner) -> str:
        with pytest.raises(SourceError) as caught:
            load(folder, ner)
        assert not (folder / "imported").exists()
        return str(caught.value)

    @pytest.mark.parametrize("auto_class", ["AutoConfig", "AutoModelForTokenClassification"])
    def test_code_for_a_model_of_its_own(self, evil, ner, monkeypatch, auto_class):
        monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked to run it"))
        config = json.loads((evil / "config.json").read_text())
        kind = "evil" if auto_class == "AutoConfig" else "bert"
        (evil / "config.json").write_text(
            json.dumps(config | {"model_type": kind, "auto_map": {auto_class: "evil.Evil"}})
        )
        if kind == "evil":
            assert "code" in self.refused(evil, ner) or "evil" in self.refused(evil, ner)
        else:  # transformers knows the architecture: its own code is used
            assert type(pretrained_in(evil).backbone(ner())).__module__.startswith("transformers.")
            assert not (evil / "imported").exists()

    def test_code_for_a_tokenizer_of_its_own(self, evil, monkeypatch):
        monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked to run it"))
        config = json.loads((evil / "tokenizer_config.json").read_text())
        (evil / "tokenizer_config.json").write_text(
            json.dumps(config | {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": [None, "evil.Evil"]}})
        )
        pretrained_in(evil).tokenizer()
        assert not (evil / "imported").exists()

    def test_an_adapter_beside_the_model(self, folder, ner):
        (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere", "peft_type": "LORA"}')
        assert "an adapter lies in the model's folder" in self.refused(folder, ner)

    def test_pickled_weights_are_not_read(self, folder, ner):
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        assert "no model.safetensors" in self.refused(folder, ner)

    @pytest.mark.parametrize("index", ["../../secret.safetensors", "/etc/passwd"])
    def test_an_index_of_weights_that_leads_out(self, folder, ner, index):
        (folder / "model.safetensors").rename(folder / "model-00001.safetensors")
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": index}})
        )
        assert self.refused(folder, ner)

    @pytest.mark.parametrize(
        "change",
        [
            {"hidden_size": "os.system"},
            {"hidden_size": -1},
            {"num_attention_heads": 0},
            {"hidden_act": "os.system"},
            {"num_hidden_layers": None},
        ],
    )
    def test_a_configuration_of_nonsense(self, folder, ner, change):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | change))
        assert "\n" not in self.refused(folder, ner)


def test_a_tokenizer_that_encodes_nothing_is_refused(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    del tokenizer["model"]["vocab"]["[UNK]"]
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] != "[UNK]"]
    file.write_text(json.dumps(tokenizer))
    with pytest.raises(SourceError, match="tokenizer"):
        pretrained_in(folder).tokenizer()


class TestPickledWeights:
    """Allowed for a repository of the hub, and even then nothing but tensors is read."""

    @pytest.fixture
    def from_hub(self, folder, monkeypatch) -> Pretrained:
        (folder / "model.safetensors").unlink()
        monkeypatch.setattr(HubSource, "_snapshot", lambda *_: folder)
        (folder / "pytorch_model.bin").touch()
        return fetch(ModelSpec(name="model", source=HubSource(repo="org/name", allow_pickle=True)))

    def test_tensors_are_read(self, from_hub, tiny_model, ner):
        stored = load_file(tiny_model / "model.safetensors")
        torch.save(stored, from_hub.folder / "pytorch_model.bin")
        encoder = from_hub.backbone(ner()).bert.state_dict()
        assert all(torch.equal(tensor, stored[name]) for name, tensor in encoder.items())

    def test_code_is_not_run(self, from_hub, ner):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(from_hub.folder / "ran"),)

        torch.save({"embeddings.word_embeddings.weight": Evil()}, from_hub.folder / "pytorch_model.bin")
        with pytest.raises(SourceError, match="the model cannot be loaded"):
            from_hub.backbone(ner())
        assert not (from_hub.folder / "ran").exists()

    def test_they_are_part_of_the_identity(self, from_hub, tiny_model):
        torch.save(load_file(tiny_model / "model.safetensors"), from_hub.folder / "pytorch_model.bin")
        assert fetch(from_hub.spec).weights_sha256 != from_hub.weights_sha256


class TestIdentity:
    def test_weights_that_an_index_names_count(self, folder, ner):
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        save_file({"unused": torch.zeros(1)}, folder / "model-00001.safetensors", metadata={"format": "pt"})
        save_file(tensors, folder / "weights-1.safetensors", metadata={"format": "pt"})
        index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors, "weights-1.safetensors")}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        before = pretrained_in(folder)
        name = "embeddings.word_embeddings.weight"
        assert torch.equal(before.backbone(ner()).bert.state_dict()[name], tensors[name])
        save_file(tensors | {name: tensors[name] + 1}, folder / "weights-1.safetensors", metadata={"format": "pt"})
        assert pretrained_in(folder).weights_sha256 != before.weights_sha256
        (folder / "model-00001.safetensors").unlink()  # no other safetensors are needed
        assert torch.equal(pretrained_in(folder).backbone(ner()).bert.state_dict()[name], tensors[name] + 1)

    @pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.int8])
    def test_other_numbers_are_not_made_of_stored_ones(self, folder, ner, dtype):
        tensors = load_file(folder / "model.safetensors")
        name = "encoder.layer.0.output.dense.weight"
        spare = {"embeddings.position_ids": torch.arange(8)}  # as older weights have it: no parameter
        save_file(tensors | spare, folder / "model.safetensors", metadata={"format": "pt"})
        pretrained_in(folder).backbone(ner())
        save_file(tensors | {name: tensors[name].to(dtype)}, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(SourceError, match=f"{name} is of the type .*, which is not converted"):
            pretrained_in(folder).backbone(ner())

    def test_what_is_no_file_is_not_waited_for(self, folder):
        for name in ("tokenizer_config.json", "chat_template.jinja", "anything"):
            (folder / name).unlink(missing_ok=True)
            os.mkfifo(folder / name)
            with pytest.raises(SourceError, match=f"{name}: is a named pipe"):
                pretrained_in(folder)
            (folder / name).unlink()

    def test_every_file_that_makes_the_model_counts(self, folder):
        before = pretrained_in(folder).weights_sha256
        assert pretrained_in(folder).weights_sha256 == before
        for name in (
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "vocab.txt",
            "spiece.model",
            "special_tokens_map.json",
            "added_tokens.json",
        ):
            kept = (folder / name).read_bytes() if (folder / name).is_file() else None
            (folder / name).write_bytes((kept or b"") + b" ")
            assert pretrained_in(folder).weights_sha256 != before, name
            (folder / name).write_bytes(kept) if kept is not None else (folder / name).unlink()
        (folder / "README.md").write_text("no part of it")
        assert pretrained_in(folder).weights_sha256 == before


def test_the_head_is_what_stands_beside_the_encoder(pretrained, ner, classification):
    assert head_of(pretrained.backbone(ner())) == ("classifier",)
    assert head_of(pretrained.backbone(classification())) == ("bert.pooler", "classifier")
    config = GPT2Config(vocab_size=9, n_positions=4, n_embd=8, n_layer=1, n_head=1)
    assert head_of(GPT2ForTokenClassification(config)) == ("classifier",)


class TestLength:
    def test_rows_may_be_as_long_as_there_are_positions(self, pretrained, ner):
        model = pretrained.backbone(ner())
        check_length(model, 64)
        with pytest.raises(ConfigError, match=r"^data\.max_tokens: .* a row has 65 tokens; set data\.max_tokens=64$"):
            check_length(model, 65)

    def test_positions_that_begin_after_the_padding(self):
        model = nn.ModuleDict({"position_embeddings": nn.Embedding(66, 4, padding_idx=1)})
        check_length(model, 64)
        with pytest.raises(ConfigError, match="the model has 64 positions"):
            check_length(model, 65)

    def test_a_model_without_positions_takes_any_length(self):
        check_length(nn.ModuleDict({"embeddings": nn.Embedding(8, 4)}), 10_000)


TINY = {"vocab_size": 30, "d_model": 8, "num_layers": 1, "num_heads": 2, "d_ff": 8}
BART = {"vocab_size": 30, "d_model": 8, "max_position_embeddings": 20}
SIDES = ("encoder", "decoder")
BART |= {f"{side}_{key}": value for side in SIDES for key, value in {"layers": 1, "attention_heads": 2}.items()}
OPT = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 8}
OPT |= {"max_position_embeddings": 20, "word_embed_proj_dim": 8}
BERT = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("T5ForConditionalGeneration", transformers.T5Config(d_kv=4, **TINY)),
        ("BertForMaskedLM", transformers.BertConfig(**BERT)),
        ("GPT2LMHeadModel", GPT2Config(vocab_size=30, n_positions=16, n_embd=8, n_layer=1, n_head=1)),
        ("BartForConditionalGeneration", transformers.BartConfig(**BART)),
        ("RobertaForMaskedLM", RobertaConfig(**BERT)),
    ],
)
def test_the_head_of_a_language_model_is_none_to_train(architecture, config):
    with pytest.raises(ConfigError, match=f"{architecture} has the pretrained head of a language model"):
        head_of(getattr(transformers, architecture)(config))


def test_a_model_without_a_head():
    with pytest.raises(ConfigError, match="_Bare has no head on top of an encoder"):
        head_of(_Bare())


class _Bare(transformers.PreTrainedModel):
    """An architecture whose weights are its own."""

    config_class = transformers.BertConfig
    base_model_prefix = "bare"

    def __init__(self):
        super().__init__(transformers.BertConfig(**BERT))
        self.linear = nn.Linear(2, 2)


def test_an_encoder_under_another_name_than_the_architectures():
    """Whisper's classifier has it as ``encoder``, where its other models have ``model``."""
    sizes = {"d_model": 8, "num_mel_bins": 4, "max_source_positions": 10, "classifier_proj_size": 4, "num_labels": 3}
    layers = {key: value for key, value in BART.items() if key.startswith(SIDES)}
    config = transformers.WhisperConfig(**sizes, **layers)
    model = transformers.WhisperForAudioClassification(config)
    assert head_of(model) == ("projector", "classifier")
    assert output_of(model, head_of(model)) == "classifier"


@pytest.mark.parametrize(
    ("model", "most"),
    [
        (transformers.GPT2Model(GPT2Config(vocab_size=30, n_positions=16, n_embd=8, n_layer=1, n_head=1)), 16),
        (transformers.BartModel(transformers.BartConfig(**BART)), 20),
        (transformers.OPTModel(transformers.OPTConfig(**OPT)), 20),
        (transformers.RobertaModel(RobertaConfig(**BERT, max_position_embeddings=22)), 20),
        (transformers.BertModel(transformers.BertConfig(**BERT, max_position_embeddings=20)), 20),
        (transformers.T5EncoderModel(transformers.T5Config(d_kv=4, **TINY)), None),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_the_most_tokens_of_a_row(model, most):
    assert positions(model) == most
    if most is not None:
        ids = torch.full((1, most + 1), 5)
        model(input_ids=ids[:, :most])
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=ids)


def test_a_decoder_with_rotary_positions_has_as_many_as_it_was_pretrained_with():
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**BERT, max_position_embeddings=24))
    check_length(model, 24)
    with pytest.raises(ConfigError, match=r"the model has 24 positions, and a row has 25 tokens; set .*max_tokens=24$"):
        check_length(model, 25)
    assert positions(transformers.ModernBertModel(transformers.ModernBertConfig(**BERT, pad_token_id=0))) is None


@pytest.mark.parametrize("name", MODEL_NOTES)
def test_what_a_run_does_not_read_is_no_part_of_its_identity(folder, name):
    before = pretrained_in(folder).weights_sha256
    (folder / name).write_text("{}")
    assert pretrained_in(folder).weights_sha256 == before


class _Generating:
    """What a task says of the files that it reads."""

    processor, generates = "tokenizer", True


def test_conversations_and_their_end_belong_to_the_identity_of_tasks_that_generate(folder):
    digests = [pretrained_in(folder, _Generating).weights_sha256]
    for name in GENERATION_FILES:
        for text in ("{}", "{ }"):
            (folder / name).write_text(text)
            digests.append(pretrained_in(folder, _Generating).weights_sha256)
    assert len(set(digests)) == 5
    instead = folder / "additional_chat_templates" / "default.jinja"
    instead.parent.mkdir()
    instead.write_text("{{ messages[0].content }}")
    digests.append(pretrained_in(folder, _Generating).weights_sha256)
    assert len(set(digests)) == 6
    assert AutoTokenizer.from_pretrained(folder).get_chat_template() == instead.read_text()
    instead.unlink()
    os.mkfifo(instead)
    with pytest.raises(SourceError, match=r"default\.jinja: is a named pipe"):
        pretrained_in(folder)
    instead.unlink()
    digests.append(pretrained_in(folder, _Generating).weights_sha256)
    assert digests[-1] == digests[-3]
    (folder / "preprocessor_config.json").write_text("{}")
    assert pretrained_in(folder, _Generating).weights_sha256 == digests[-1]
