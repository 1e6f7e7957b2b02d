"""What every method of ``conf/peft/`` must hold. A new file there is tested without a change here."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from peftlab.backbone import head_of
from peftlab.errors import ConfigError, UserError
from peftlab.exits import conf_dir
from peftlab.methods.library import LibraryMethod, linear_layers
from peftlab.methods.method import MethodContext
from peftlab.methods.selection import Full, Head

FILES = {path.stem: OmegaConf.load(path) for path in sorted((conf_dir() / "peft").glob("*.yaml"))}
METHODS = list(FILES)
LIBRARY = [name for name, file in FILES.items() if file._target_ == "peftlab.methods.library.LibraryMethod"]
LORA = [name for name in LIBRARY if FILES[name].peft_type == "LORA" and not FILES[name].get("use_dora")]
ALPHAS = {name: [key for key in FILES[name] if key.endswith("alpha")] for name in LIBRARY}
STRENGTHS = {name: alpha for name, alpha in ALPHAS.items() if alpha and not FILES[name].get("use_dora")}
"""The option that scales what a method adds; DoRA's is not all that it adds."""

CHANGES_AT_START: set[str] = set()
"""Methods that do not promise to begin as the plain backbone."""

CANNOT_MERGE: set[str] = set()
"""Methods that compute what no plain model does."""


@pytest.fixture(scope="module")
def task(spec):
    task = spec("task=ner").task
    task.learn_labels({"train": []}, ["LOC", "ORG", "PER"])
    return task


@pytest.fixture(scope="module")
def batch(spec, task, tiny_data, pretrained):
    examples = spec().data.format.read({"train": tiny_data / "train.txt"})["train"][:8]
    encoded = task.encode(examples, pretrained.tokenizer(), max_tokens=32, long="split")
    return task.collate(examples, encoded, range(len(examples)))


@pytest.fixture
def plain(pretrained, task):
    """Return a maker of the backbone with the head that a seed gives."""

    def make(seed=0, task=task):
        torch.manual_seed(seed)
        return pretrained.backbone(task).eval()

    return make


@pytest.fixture
def tuned(plain, pretrained, task):
    """Return a maker of the backbone to which a method has been applied, both seeded; and the context."""

    def make(method, seed=0, task=task, model=None):
        model = plain(seed, task) if model is None else model
        context = MethodContext(head_of(model), task.head.task_type, pretrained.origin)
        return method.apply(model, context).eval(), context

    return make


@pytest.fixture
def logits(batch):
    @torch.no_grad()
    def compute(model):
        return model.eval()(**batch["inputs"]).logits

    return compute


@pytest.fixture
def train(task, batch):
    """Take some optimiser steps on the one batch; returns the loss of each."""

    def steps(model, number=3, lr=1e-2):
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=0.0)
        losses = []
        model.train()
        for _ in range(number):
            optimizer.zero_grad()
            loss = task.loss(model(**batch["inputs"]).logits, batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        return losses

    return steps


def trainable(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def head_in(model, context):
    """The names of the head's parameters that are in use."""
    return {
        name
        for name, _ in model.named_parameters()
        if set(name.split(".")) & set(context.head) and "original_module" not in name.split(".")
    }


def copies(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict(keep_vars=True).items()}


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_the_head_is_trained_and_the_exact_rest(self, name, spec, plain, tuned):
        method = spec(f"peft={name}").peft
        backbone = plain()
        own = {id(parameter): parameter_name for parameter_name, parameter in backbone.named_parameters()}
        targets = linear_layers(backbone, method.target, ("classifier",)) if name in LIBRARY else []
        model, context = tuned(method, model=backbone)
        found = trainable(model)
        head = head_in(model, context)
        assert head
        assert head <= found
        assert set(method.trained(model)) == found
        if isinstance(method, Full):
            assert found == set(own.values())
        elif isinstance(method, Head):
            assert found == head
        elif isinstance(method, LibraryMethod):
            assert not any(parameter.requires_grad for parameter in model.parameters() if id(parameter) in own)
            adapters = found - head
            assert all(any(f".{target}." in adapter for adapter in adapters) for target in targets)
            assert all(any(f".{target}." in adapter for target in targets) for adapter in adapters)

    def test_at_start_it_is_the_plain_backbone(self, name, spec, plain, tuned, logits):
        backbone = plain()
        before = logits(backbone)
        after = logits(tuned(spec(f"peft={name}").peft, model=backbone)[0])
        assert torch.allclose(before, after, atol=1e-6) != (name in CHANGES_AT_START)
        assert not torch.allclose(before, logits(plain(seed=1)), atol=1e-6)

    def test_the_seed_decides_all_that_is_random(self, name, spec, tuned):
        method = spec(f"peft={name}").peft
        first, again, other = (copies(tuned(method, seed=seed)[0]) for seed in (3, 3, 4))
        assert all(torch.equal(first[key], again[key]) for key in first)
        assert not all(torch.equal(first[key], other[key]) for key in first)

    def test_training_changes_what_is_trainable_and_nothing_else(self, name, spec, tuned, train, logits):
        model, _ = tuned(spec(f"peft={name}").peft)
        before, out = copies(model), logits(model)
        train(model)
        after = copies(model)
        changed = {key for key in before if not torch.equal(before[key], after[key])}
        assert changed == trainable(model)
        assert not torch.allclose(logits(model), out, atol=1e-3)

    def test_it_learns(self, name, spec, tuned, train):
        losses = train(tuned(spec(f"peft={name}").peft)[0], number=20)
        assert losses[-1] < 0.9 * losses[0]

    def test_gradient_checkpointing_leaves_the_losses_alone(self, name, spec, plain, tuned, train):
        method = spec(f"peft={name}").peft
        losses = []
        for checkpointing in (False, True):
            backbone = plain()
            if checkpointing:
                backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            losses.append(train(tuned(method, model=backbone)[0]))
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)

    def test_counts(self, name, spec, plain, tuned):
        method = spec(f"peft={name}").peft
        total = sum(parameter.numel() for parameter in plain().parameters())
        model, context = tuned(method)
        sizes = {key: parameter.numel() for key, parameter in model.named_parameters()}
        count = method.count(model)
        assert count["trainable_parameters"] == sum(sizes[key] for key in trainable(model))
        added = sum(sizes[key] for key in trainable(model) - head_in(model, context)) if name in LIBRARY else 0
        assert count["total_parameters"] == total + added


@pytest.mark.parametrize("name", METHODS)
class TestSaveAndLoad:
    @pytest.fixture
    def saved(self, name, spec, tuned, train, tmp_path):
        """A trained model, its method, and the folder that it has been saved in."""
        method = spec(f"peft={name}").peft
        model, context = tuned(method)
        train(model)
        size = method.save(model, tmp_path / "adapter", context)
        assert size == (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
        return model, method, tmp_path / "adapter"

    @pytest.mark.parametrize("seed", [0, 5])
    def test_a_new_model_gives_the_same_logits(self, saved, seed, tuned, logits):
        model, method, folder = saved
        loaded, _ = tuned(method, seed)
        expected = logits(model)
        assert not torch.equal(logits(loaded), expected)
        method.load(loaded, folder)
        assert torch.equal(logits(loaded), expected)
        assert trainable(loaded) == trainable(model)
        assert all(
            torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True) if a.requires_grad
        )

    def test_merged_it_is_a_plain_model_with_the_same_logits(self, saved, plain, logits):
        model, method, _ = saved
        if method.name in CANNOT_MERGE:
            with pytest.raises(UserError, match=method.name):
                method.merge(model)
            return
        expected = logits(model)
        merged = method.merge(model)
        assert type(merged) is type(plain())
        assert merged.state_dict().keys() == plain().state_dict().keys()
        torch.testing.assert_close(logits(merged), expected, atol=1e-5, rtol=1e-4)

    def test_saving_leaves_the_model_alone(self, saved, logits, train):
        model, method, _ = saved
        before = trainable(model)
        assert before == set(method.trained(model))
        out = logits(model)
        train(model)
        assert not torch.equal(logits(model), out)

    def test_only_what_the_method_has_made_its_own_is_in_the_file(self, saved, plain):
        model, method, folder = saved
        stored = sum(tensor.numel() for tensor in load_file(folder / "adapter_model.safetensors").values())
        trained = method.count(model)["trainable_parameters"]
        own = {key for key, _ in plain().named_buffers()}
        buffers = model.named_buffers(remove_duplicate=False)
        added = sum(buffer.numel() for key, buffer in buffers if key.removeprefix("base_model.model.") not in own)
        assert trained <= stored <= trained + added

    def test_the_description_names_the_origin_and_no_folder_of_this_machine(self, saved, pretrained, tmp_path):
        _, _, folder = saved
        description = json.loads((folder / "adapter_config.json").read_text())
        assert pretrained.origin in description.values()
        texts = [value for value in description.values() if isinstance(value, str) and value != pretrained.origin]
        assert not any(str(pretrained.folder) in text or str(tmp_path) in text for text in texts)

    def test_tensors_of_another_shape_are_refused(self, saved, spec, tuned):
        _, method, folder = saved
        other = spec("task=ner").task
        other.learn_labels({"train": []}, ["LOC", "PER"])
        loaded, _ = tuned(method, task=other)
        before = copies(loaded)
        with pytest.raises(ValueError, match="has shape"):
            method.load(loaded, folder)
        assert all(torch.equal(tensor, before[key]) for key, tensor in copies(loaded).items())

    def test_a_tensor_too_few_is_refused(self, saved, tuned):
        _, method, folder = saved
        stored = load_file(folder / "adapter_model.safetensors")
        lost = sorted(stored)[0]
        save_file({key: tensor for key, tensor in stored.items() if key != lost}, folder / "adapter_model.safetensors")
        with pytest.raises(ValueError, match=f"1 tensors are only in the file or only in the model, first {lost}"):
            method.load(tuned(method)[0], folder)


@pytest.mark.parametrize("name", LIBRARY)
class TestEveryMethodOfTheLibrary:
    def test_a_target_that_matches_nothing(self, name, spec, tuned):
        method = spec(f"peft={name}", "peft.target=[value,qery]").peft
        with pytest.raises(ConfigError) as error:
            tuned(method)
        assert str(error.value) == (
            "peft.target: no linear layer is called 'qery'. Did you mean 'query'? "
            "Allowed: all_linear, attention, mlp, or names of modules: dense, key, query, value"
        )

    @pytest.mark.parametrize(("target", "layers"), [("all_linear", 12), ("attention", 8), ("mlp", 4), ("[query]", 2)])
    def test_only_the_target_is_adapted(self, name, target, layers, spec, tuned):
        model, context = tuned(spec(f"peft={name}", f"peft.target={target}").peft)
        adapters = trainable(model) - head_in(model, context)
        layer = {key.split(".layer.")[1].split(f".{model.base_model.prefix}")[0] for key in adapters}
        assert len(layer) == layers

    def test_the_library_itself_loads_what_is_saved(self, name, spec, plain, tuned, train, logits, tmp_path):
        method = spec(f"peft={name}").peft
        model, context = tuned(method)
        train(model)
        method.save(model, tmp_path / "adapter", context)
        assert not model.peft_config["default"].inference_mode
        loaded = peft.PeftModel.from_pretrained(plain(seed=8), tmp_path / "adapter")
        assert torch.equal(logits(loaded), logits(model))
        merged = loaded.merge_and_unload()
        assert not any(isinstance(module, peft.PeftModel) for module in merged.modules())
        torch.testing.assert_close(logits(merged), logits(model), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", STRENGTHS)
def test_almost_without_strength_it_stays_near_the_backbone(name, spec, plain, tuned, train, logits):
    distances = []
    for override in ([f"peft.{key}=1.0e-5" for key in STRENGTHS[name]], []):
        model, context = tuned(spec(f"peft={name}", *override).peft)
        train(model, number=5)
        backbone = plain()
        trained_head = {key.split(".")[-1]: model.get_parameter(key).detach() for key in head_in(model, context)}
        backbone.classifier.load_state_dict(trained_head)
        distances.append((logits(model) - logits(backbone)).abs().max().item())
    near, far = distances
    assert 0 < near < 1e-3
    assert far > 0.01


@pytest.mark.parametrize("name", LORA)
@pytest.mark.parametrize("target", ["all_linear", "attention", "mlp"])
def test_lora_has_the_size_of_the_formula(name, target, spec, tuned, task):
    method = spec(f"peft={name}", f"peft.target={target}", "peft.r=3").peft
    attention, mlp = [(32, 32)] * 4, [(32, 64), (64, 32)]
    shapes = {"all_linear": attention + mlp, "attention": attention, "mlp": mlp}[target]
    layers, labels = 2, len(task.labels)
    adapter = layers * sum(3 * (inputs + outputs) for inputs, outputs in shapes)
    model, _ = tuned(method)
    assert method.count(model)["trainable_parameters"] == adapter + 32 * labels + labels


@pytest.mark.parametrize("name", LORA)
def test_lora_trains_a_pair_of_matrices_a_layer(name, spec, tuned):
    model, _ = tuned(spec(f"peft={name}").peft)
    inside = "base_model.model.bert.encoder.layer"
    layers = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
    layers += ["intermediate.dense", "output.dense"]
    head = {f"base_model.model.classifier.modules_to_save.default.{part}" for part in ("weight", "bias")}
    assert trainable(model) == head | {
        f"{inside}.{n}.{layer}.lora_{matrix}.default.weight" for n in range(2) for layer in layers for matrix in "AB"
    }
