from __future__ import annotations

import pytest
from torch import nn

from peftlab.errors import ConfigError
from peftlab.methods.targets import blocks, check_layers, target_modules

ATTENTION = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
MLP = ["intermediate.dense", "output.dense"]


def in_every_block(layers: list[str]) -> set[str]:
    return {f"bert.encoder.layer.{n}.{layer}" for n in range(2) for layer in layers}


@pytest.fixture(scope="module")
def model(pretrained):
    from transformers import AutoModelForTokenClassification

    return AutoModelForTokenClassification.from_pretrained(pretrained.folder)


class TestTargets:
    @pytest.mark.parametrize(
        ("target", "layers"),
        [
            ("all_linear", ATTENTION + MLP),
            ("attention", ATTENTION),
            ("mlp", MLP),
            ("query", ["attention.self.query"]),
            (["query", "value"], ["attention.self.query", "attention.self.value"]),
            ("output.dense", ["attention.output.dense", "output.dense"]),
            (["attention.output.dense"], ["attention.output.dense"]),
            ("dense", ["attention.output.dense", *MLP]),
        ],
    )
    def test_groups_and_ends_of_names(self, model, target, layers):
        found = target_modules(model, target, ("classifier",))
        assert set(found) == in_every_block(layers)

    def test_a_whole_name(self, model):
        name = "bert.encoder.layer.1.intermediate.dense"
        assert target_modules(model, name, ("classifier",)) == [name]

    def test_a_part_of_a_name_is_not_its_end(self, model):
        with pytest.raises(ConfigError, match="no layer is called 'uery'"):
            target_modules(model, "uery", ("classifier",))

    @pytest.mark.parametrize("target", ["classifier", ["query", "classifier"]])
    def test_the_head_is_never_a_target(self, model, target):
        with pytest.raises(ConfigError, match="no layer is called 'classifier'"):
            target_modules(model, target, ("classifier",))

    def test_groups_leave_out_what_is_not_in_a_block(self):
        blocks = nn.ModuleList([nn.ModuleDict({"attn": nn.Linear(2, 2), "fc": nn.Linear(2, 2)})])
        model = nn.ModuleDict({"encoder": nn.ModuleDict({"layer": blocks, "pooler": nn.Linear(2, 2)})})
        assert target_modules(model, "all_linear", ()) == ["encoder.layer.0.attn", "encoder.layer.0.fc"]
        assert target_modules(model, "attention", ()) == ["encoder.layer.0.attn"]
        assert target_modules(model, "mlp", ()) == ["encoder.layer.0.fc"]
        assert target_modules(model, "pooler", ()) == ["encoder.pooler"]
        with pytest.raises(ConfigError, match="no layer is called 'pooler'"):
            target_modules(model, "pooler", ("encoder.pooler",))

    @pytest.mark.parametrize("target", ["all_linear", "attention", []])
    def test_nothing_to_adapt(self, target):
        with pytest.raises(ConfigError, match=r"peft\.target=.* matches nothing in Sequential"):
            target_modules(nn.Sequential(nn.Embedding(2, 2)), target, ())

    def test_layer_norms(self, model):
        found = target_modules(model, "layer_norms", ("classifier",))
        assert set(found) == in_every_block(["attention.output.LayerNorm", "output.LayerNorm"])


class TestLayers:
    @pytest.mark.parametrize(
        ("layers", "numbers"),
        [(None, [0, 1]), ("last:1", [1]), ("first:1", [0]), ("last:2", [0, 1]), ([1], [1]), ([0, 1], [0, 1])],
    )
    def test_blocks(self, model, layers, numbers):
        assert blocks(model, layers, ("classifier",)) == {("bert.encoder.layer", n) for n in numbers}
        for target, names in [("all_linear", ATTENTION + MLP), ("query", ["attention.self.query"])]:
            found = target_modules(model, target, ("classifier",), layers)
            assert set(found) == {f"bert.encoder.layer.{n}.{name}" for n in numbers for name in names}

    @pytest.mark.parametrize("layers", ["last:3", "first:3", [2], [0, 7]])
    def test_blocks_that_are_not_there(self, model, layers):
        with pytest.raises(ConfigError) as error:
            blocks(model, layers, ("classifier",))
        assert str(error.value).endswith(f"={layers}: bert.encoder.layer of this model has 2 blocks, 0 to 1")

    @pytest.mark.parametrize("layers", ["last", "last:0", "top:2", "last:-1", "2", [], [-1]])
    def test_another_form(self, layers):
        with pytest.raises(ConfigError, match=r"allowed are first:N|a list names at least one block"):
            check_layers(layers)

    def test_a_name_in_other_blocks_only(self, model):
        with pytest.raises(ConfigError, match=r"'1\.output\.dense' is in none of the blocks that peft.layers=first:1"):
            target_modules(model, ["query", "1.output.dense"], ("classifier",), "first:1")

    def test_of_several_stacks_each(self):
        def stack(number):
            return nn.ModuleList([nn.ModuleDict({"fc": nn.Linear(2, 2)}) for _ in range(number)])

        model = nn.ModuleDict({"encoder": stack(3), "decoder": stack(2), "head": stack(1)})
        assert blocks(model, "last:1", ("head",)) == {("encoder", 2), ("decoder", 1)}
        assert target_modules(model, "all_linear", ("head",), "last:1") == ["encoder.2.fc", "decoder.1.fc"]

    def test_a_model_without_blocks(self):
        with pytest.raises(ConfigError, match="Sequential has no repeated blocks"):
            blocks(nn.Sequential(nn.Linear(2, 2)), "last:1", ())
