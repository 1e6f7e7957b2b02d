from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from peftlab.errors import ConfigError, UserError
from peftlab.methods.library import LibraryMethod
from peftlab.methods.method import MethodContext


def lora(**options) -> LibraryMethod:
    return LibraryMethod(name="lora", learning_rate=1e-3, peft_type="LORA", **options)


@pytest.fixture(scope="module")
def model(pretrained):
    from transformers import AutoModelForTokenClassification

    return AutoModelForTokenClassification.from_pretrained(pretrained.folder)


class TestOptions:
    def test_a_method_that_the_library_lacks(self):
        with pytest.raises(ConfigError) as error:
            LibraryMethod(name="x", learning_rate=1, peft_type="LORRA")
        assert str(error.value).startswith("peft.peft_type = 'LORRA' is no method of peft ")
        assert "Did you mean 'LORA'?" in str(error.value)
        assert "IA3" in str(error.value)

    @pytest.mark.parametrize("peft_type", ["PROMPT_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT"])
    def test_a_method_that_adapts_no_layers(self, peft_type):
        with pytest.raises(ConfigError, match=f"peft.peft_type = '{peft_type}' is of a kind that is not supported"):
            LibraryMethod(name="x", learning_rate=1, peft_type=peft_type)

    def test_an_option_that_the_method_lacks(self):
        with pytest.raises(ConfigError) as error:
            lora(lora_alpa=3)
        assert str(error.value) == (
            "there is no key 'peft.lora_alpa': LoraConfig has no such option. Did you mean 'lora_alpha'?"
        )

    def test_a_value_that_the_library_refuses(self):
        with pytest.raises(ConfigError, match=r"^peft: OFTConfig refuses these values: "):
            LibraryMethod(name="x", learning_rate=1, peft_type="OFT", r=2, oft_block_size=2)

    @pytest.mark.parametrize(
        ("option", "value", "said"),
        [
            ("use_dora", "no", "'no': should be true or false"),  # any text is true to the library
            ("lora_alpha", "abc", "'abc': should be a finite number"),
            ("lora_dropout", float("nan"), "nan: should be a finite number"),
            ("lora_dropout", -0.5, "-0.5: should be a probability"),  # which it takes for none
            ("lora_alpha", 0, "0: the update is multiplied by it"),
        ],
    )
    def test_a_value_that_it_makes_something_else_of(self, option, value, said):
        with pytest.raises(ConfigError, match=rf"^peft\.{option} = {said}"):
            lora(**{option: value})

    def test_a_fraction_where_it_says_whole_number_is_taken(self):
        assert lora(lora_alpha=0.5).options == {"lora_alpha": 0.5}

    def test_a_value_that_it_refuses_only_when_the_layers_are_made(self, model):
        with pytest.raises(ConfigError, match=r"^peft: LoraConfig refuses these values: "):
            lora(r=0).apply(model, MethodContext(("classifier",), "TOKEN_CLS", "here"))

    @pytest.mark.parametrize("value", ["eva", "lora_ga", "corda", "loftq", "pissa_niter_4"])
    def test_a_beginning_that_would_not_be_that_of_its_name(self, value):
        with pytest.raises(
            ConfigError, match=rf"peft.init_lora_weights = '{value}': allowed with peft=lora are true, "
        ):
            lora(init_lora_weights=value)

    def test_what_is_saved_must_suffice(self):
        with pytest.raises(
            ConfigError, match=r"peft.save_only_topk_weights is no option: its adapters hold too little"
        ):
            LibraryMethod(name="vblora", learning_rate=1, peft_type="VBLORA", save_only_topk_weights=True)

    @pytest.mark.parametrize(
        ("option", "value", "message"),
        [
            ("layers_to_transform", [0], r"the blocks to adapt are peft\.layers"),
            ("layers_pattern", "layer", r"the blocks to adapt are peft\.layers"),
            ("exclude_modules", ["key"], r"name the modules to adapt in peft\.target"),
            ("loftq_config", {"loftq_bits": 4}, "it belongs to a way to begin"),
            ("use_qalora", True, "quantised by GPTQ"),
            ("alora_invocation_tokens", [5], "begin within a text"),
            ("monteclora_config", {}, "its variational loss"),
        ],
    )
    def test_what_would_not_act(self, option, value, message):
        with pytest.raises(ConfigError, match=rf"^peft\.{option} is no option: .*{message}"):
            lora(**{option: value})

    def test_pruning_that_nothing_does(self):
        with pytest.raises(ConfigError, match=r"peft\.use_asa is no option: subspaces are pruned by a callback"):
            LibraryMethod(name="x", learning_rate=1, peft_type="ADAMSS", use_asa=True)
        with pytest.raises(ConfigError, match=r"its ranks are pruned after the steps .* Choose peft=adalora"):
            LibraryMethod(name="x", learning_rate=1, peft_type="ADALORA", total_step=100)

    @pytest.mark.parametrize(("saved", "refused"), [(False, True), (True, False)])
    def test_another_seed_of_shared_matrices_is_another_method_unless_they_are_saved(
        self, saved, refused, ner, pretrained
    ):
        context = MethodContext(("classifier",), "TOKEN_CLS", "here")
        about = {"name": "vera", "learning_rate": 1e-3, "peft_type": "VERA", "r": 4, "save_projection": saved}
        method = LibraryMethod(projection_prng_key=1, **about)
        wrapped = method.apply(pretrained.backbone(ner()), context)
        description = {"peft_type": "VERA", "projection_prng_key": 2, "save_projection": saved}
        if refused:
            with pytest.raises(ConfigError, match=r"set peft.projection_prng_key=2"):
                method.check_description(description, wrapped)
        else:
            method.check_description(description, wrapped)

    def test_options_reach_the_library(self, pretrained, ner):
        wrapped = lora(r=3, lora_alpha=6, target="query").apply(
            pretrained.backbone(ner()), MethodContext(("classifier",), "TOKEN_CLS", "here")
        )
        layer = wrapped.base_model.model.bert.encoder.layer[0].attention.self.query
        assert layer.lora_A["default"].weight.shape == (3, 32)
        assert layer.scaling["default"] == 2
        assert wrapped.peft_config["default"].base_model_name_or_path == "here"

    def test_our_own_fields_are_no_options_of_the_library(self):
        assert lora(r=3, target=["query"]).options == {"r": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank_pattern": {"quary": 3}}, r"is called 'quary'. Did you mean 'query'\? There are: query, value"),
        ({"rank_pattern": {"key": 3}}, "peft.rank_pattern: no module that is adapted is called 'key'"),
        ({"alpha_pattern": {"layer.7.attention.self.query": 3}}, "peft.alpha_pattern: no module"),
        ({"rank_pattern": {"query": 3, "uery": 3}}, "peft.rank_pattern: no module that is adapted is called 'uery'"),
    ],
)
def test_a_value_for_modules_that_are_not_adapted(pretrained, ner, options, message):
    method = lora(target=["query", "value"], r=4, **options)
    with pytest.raises(ConfigError, match=message):
        method.apply(pretrained.backbone(ner()), MethodContext(("classifier",), "TOKEN_CLS", "here"))


def test_parameters_that_are_not_there(model):
    context = MethodContext(("classifier",), "TOKEN_CLS", "here")
    with pytest.raises(ConfigError, match=r"^peft\.target_parameters: no parameter is called 'experts\.up'"):
        lora(r=2, target="query", target_parameters=["key.weight", "experts.up"]).apply(copy.deepcopy(model), context)
    found = lora(r=2, target="query", target_parameters=["key.weight"]).apply(copy.deepcopy(model), context)
    assert any(".key.lora_A." in name for name, _ in found.named_parameters())


@pytest.mark.parametrize("pattern", ["query", "layer.1.attention.self.query", "self.query", r"layer\.\d\.att.*query"])
def test_a_value_for_modules_by_any_pattern_of_the_library(pretrained, ner, pattern):
    method = lora(target=["query", "value"], r=4, rank_pattern={pattern: 3})
    model = method.apply(pretrained.backbone(ner()), MethodContext(("classifier",), "TOKEN_CLS", "here"))
    ranks = {name: len(p) for name, p in model.named_parameters() if "lora_A" in name}
    assert {rank for name, rank in ranks.items() if ".query." in name and "layer.1." in name} == {3}
    assert {rank for name, rank in ranks.items() if ".value." in name} == {4}


def test_a_head_of_any_name_is_trained_whole():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = {"model_type": "custom"}
            self.encoder = nn.ModuleList([nn.ModuleDict({"linear": nn.Linear(4, 4)})])
            self.tagger = nn.Linear(4, 3)

    wrapped = lora(r=2, target="linear").apply(Tagger(), MethodContext(("tagger",), "TOKEN_CLS", "here"))
    assert {name for name, parameter in wrapped.named_parameters() if parameter.requires_grad} == {
        "base_model.model.encoder.0.linear.lora_A.default.weight",
        "base_model.model.encoder.0.linear.lora_B.default.weight",
        "base_model.model.tagger.modules_to_save.default.weight",
        "base_model.model.tagger.modules_to_save.default.bias",
    }


def test_copies_of_a_layer_which_share_its_weights_are_not_merged(model):
    context = MethodContext(("classifier",), "TOKEN_CLS", "here")
    method = lora(r=2, target="query", layer_replication=[[0, 1], [0, 1]])
    with pytest.raises(UserError, match="cannot be merged into a plain model"):
        method.merge(method.apply(copy.deepcopy(model), context))


def test_lora_is_the_equation_of_its_paper(pretrained, ner):
    """h = W x + b + alpha / r * B A x (Hu et al. 2021, equation 3)."""
    model = pretrained.backbone(ner()).eval()
    weight = model.bert.encoder.layer[0].attention.self.query.weight.detach().clone()
    context = MethodContext(("classifier",), "TOKEN_CLS", "here")
    wrapped = lora(r=4, lora_alpha=10, target="query").apply(model, context).eval()
    layer = wrapped.base_model.model.bert.encoder.layer[0].attention.self.query
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.manual_seed(0)
    nn.init.normal_(up)
    x = torch.randn(5, 32)
    expected = x @ weight.T + layer.base_layer.bias + 10 / 4 * (x @ down.T) @ up.T
    torch.testing.assert_close(layer(x), expected)
