"""What every method of ``conf/peft/`` must hold. A new file there is tested without a change here."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import re
import shutil
import warnings
from pathlib import Path
from pydoc import locate
from types import SimpleNamespace
from typing import NamedTuple, get_args, get_type_hints

import peft
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file, save_file
from tests.method_files import CHANGES_AT_START, FILES, METHODS, OFTEN, ONE_OF_EACH_CLASS, SOME, tiers
from torch import Tensor, nn

from peftlab.data.splits import split_files
from peftlab.errors import ConfigError, UserError
from peftlab.methods.adapters import TwoAdapters
from peftlab.methods.combined import Combined
from peftlab.methods.head import head_of, is_of_head
from peftlab.methods.insertion import Insertion
from peftlab.methods.labels import save_labels
from peftlab.methods.library import BEGINNING, BESIDE, LibraryMethod
from peftlab.methods.method import Method, MethodContext
from peftlab.methods.selection import BitFit, Full, Head, TopLayers
from peftlab.methods.sliced import Sliced
from peftlab.methods.targets import target_modules
from peftlab.speed.frozen_weights import store_in_bf16
from peftlab.tasks.limits import Limits
from peftlab.use.ensembles.merging import merge_into
from peftlab.use.ensembles.rules import Soup
from peftlab.use.ensembles.weights import Shelf, changes, original_weights

CLASSES = {name: locate(file._target_) for name, file in FILES.items()}
LIBRARY = [name for name, cls in CLASSES.items() if issubclass(cls, LibraryMethod)]
TARGETED = [name for name in LIBRARY if "target" in FILES[name]]
DESIGNED = {"inflora": ".lora_A."}
"""By a part of its name, what a method sets by training batches, and does not train."""
LORA = [
    name
    for name in LIBRARY
    if FILES[name].peft_type == "LORA" and not FILES[name].get("use_dora") and name not in DESIGNED
]

each = functools.partial(pytest.mark.parametrize, scope="module")
"""Has all tests of a method come one after another, so that only one process has to train it for `fitted`."""

ON_TEXTS = ["full", "head", "houlsby", "lora", "prefix_tuning", "prompt_tuning"]
"""To a method the task is its head, and the pooler before it; these put their weights into different places."""

REWRITES_ITS_BASE = {name for name in LORA if FILES[name].init_lora_weights in ("pissa", "olora")}
"""Methods that take a part out of the frozen weights, which rounds them."""

ALPHAS = ("lora_alpha", "alpha", "randlora_alpha")
STRENGTHS = {name: [key for key in ALPHAS if FILES[name].get(key) is not None] for name in LIBRARY}
STRENGTHS = {
    name: keys
    for name, keys in STRENGTHS.items()
    if keys and not FILES[name].get("use_dora") and name not in {*REWRITES_ITS_BASE, "adalora"}
}
"""The option that scales what a method adds; DoRA's is not all that it adds, and AdaLoRA's values begin as zero."""

LORA_LIKE = {name for name in LORA if name != "dora"} | {"gralora", "hira", "shira", "deft", "peanut"}


def factors(size):
    """The two factors of a size that are nearest to each other, the smaller first."""
    small = max(n for n in range(1, size + 1) if size % n == 0 and n * n <= size)
    return small, size // small


def kronecker(i, o, r):
    """LoKr: a factor as it is, and one of low rank where that is smaller (Yeh et al. 2023, section 3.2)."""
    (small_in, large_in), (small_out, large_out) = factors(i), factors(o)
    low = r < max(large_in, large_out) / 2
    return small_in * small_out + (r * (large_in + large_out) if low else large_in * large_out)


SIZES = {
    **{name: lambda i, o, g: g.r * (i + o) for name in sorted(LORA_LIKE)},  # Hu et al. 2021, section 4.1
    "dora": lambda i, o, g: g.r * (i + o) + o,  # and a magnitude of each output
    "inflora": lambda i, o, g: g.r * o,  # B alone
    "adalora": lambda i, o, g: g.init_r * (i + o + 1),  # and singular values
    "delora": lambda i, o, g: g.r * (i + o) + 1,  # and a norm
    "glora": lambda i, o, g: 2 * g.r * (i + o) + g.r * (i + 1) + 2,  # A and B, C, D and E
    "loha": lambda i, o, g: 2 * g.r * (i + o),
    "lokr": lambda i, o, g: kronecker(i, o, g.r),
    "vera": lambda i, o, g: o + g.r,  # Kopiczko et al. 2023, section 3.3
    "pvera": lambda i, o, g: o + 2 * g.r,  # a mean and a variance in place of one vector
    "randlora": lambda i, o, g: -(-min(i, o) // g.r) * (g.r + min(i, o)),
    "tinylora": lambda i, o, g: g.u,
    "vblora": lambda i, o, g: g.r * g.num_vectors * (i + o) // g.vector_length,
    "unilora": lambda i, o, g: 0,
    "fourierft": lambda i, o, g: g.n_frequency,
    "waveft": lambda i, o, g: g.n_frequency,
    "c3a": lambda i, o, g: i * o // g.block_size,
    "miss": lambda i, o, g: g.r * o,
    "hra": lambda i, o, g: g.r * i,
    "oft": lambda i, o, g: i // g.oft_block_size * (g.oft_block_size * (g.oft_block_size - 1) // 2),
    "psoft": lambda i, o, g: g.r * (g.r - 1) // 2 + 2 * g.r,
    "road": lambda i, o, g: o,
    "osf": lambda i, o, g: (min(i, o) - min(i, o) // 2) * (i + o + 1),  # the half of the lower singular values
    "supertuning": lambda i, o, g: int(i * o * (1 - g.sparsity) + 1e-9),
}
"""Parameters of a linear layer with i inputs and o outputs, by the method's options g."""
SHARED_SIZES = {"unilora": lambda g: g.theta_d_length, "vblora": lambda g: g.num_vectors * g.vector_length}
"""Of what all layers share."""

SHARED = {"tinylora": "tinylora_v", "unilora": "unilora_theta_d", "vblora": "vblora_vector_bank"}
"""What all layers of a method share beside what each has, by a part of its name."""

SCALES_BIASES = {"glora": ".glora_D."}
"""By a part of its name, what a method multiplies the backbone's biases with: those of the tiny BERT are zero."""

BY_ROUNDING_ALONE = {"glora": ".key.glora_C."}
"""By a part of its name, what a method makes a bias of the keys of: it shifts all weights of a query alike."""

ATTENTION = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
NORMS = ["attention.output.LayerNorm", "output.LayerNorm"]

ONLY_SHARED = {"tinylora", "unilora"}
"""Methods that train nothing else."""


@pytest.fixture(scope="module")
def learnt(request, spec, data_for):
    """A task that has learnt its labels, by default ner; some examples for it, and how they are encoded."""
    name = f"task={getattr(request, 'param', 'ner')}"
    whole = spec(name, *data_for(spec(name).task))
    fetched = whole.data.source.fetch()
    files = split_files(whole.data.splits, fetched, folders=False)
    examples = whole.data.format.read({"train": fetched.file(files["train"])})["train"]
    whole.task.learn_labels({"train": examples}, None)
    return whole.task, examples[:8], Limits(32, whole.data.long)


@pytest.fixture(scope="module")
def task(learnt):
    return learnt[0]


@pytest.fixture(scope="module")
def batch(learnt, pretrained):
    task, examples, limits = learnt
    encoded = task.encode(examples, pretrained.processor("tokenizer"), limits)
    return task.collate(examples, encoded, range(len(examples)))


@pytest.fixture
def plain(backbones, task):
    """Return a maker of the backbone with the head that a seed gives."""

    def make(seed=0, task=task):
        return backbones(seed, task)

    return make


@pytest.fixture
def tuned(plain, pretrained, task):
    """Return a maker of the backbone to which a method has been applied, both seeded; and the context."""

    def make(method, seed=0, task=task, model=None):
        model = plain(seed, task) if model is None else model
        context = MethodContext(head_of(model), task.head.task_type, pretrained.origin, task.head.outputs)
        return method.apply(model, context).eval(), context

    return make


@pytest.fixture
def logits(batch):
    @torch.no_grad()
    def compute(model):
        return model.eval()(**batch.inputs).logits

    return compute


@pytest.fixture
def train(task, batch):
    """Take some optimiser steps on the one batch, the head's at 1e-2; returns the loss of each."""

    def steps(model, number=3, lr=1e-2):
        trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        rates = [1e-2 if is_of_head(name, ["classifier", "bert.pooler"]) else lr for name, _ in trained]
        groups = [{"params": [parameter], "lr": rate} for (_, parameter), rate in zip(trained, rates, strict=True)]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        losses = []
        model.train()
        for _ in range(number):
            optimizer.zero_grad()
            loss = task.loss(model(**batch.inputs), batch)
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
        if any(f".{module}." in f".{name}" for module in context.head) and ".original_module." not in name
    }


def unwrapped(key):
    """The name of a parameter before the library has wrapped the model."""
    return key.replace(".base_layer.", ".").removeprefix("base_model.").removeprefix("model.")


def size_of_head(fitted):
    return sum(fitted.model.get_parameter(key).numel() for key in head_in(fitted.model, fitted.context))


def copies(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict(keep_vars=True).items()}


class Fitted(NamedTuple):
    """A method after a little training on a task; nothing changes it."""

    method: Method
    model: nn.Module
    context: MethodContext
    own: set[str]
    """The names of the backbone's parameters before the method."""
    targets: list[str]
    """The modules that a method of the library adapts."""
    untuned: Tensor
    """The backbone's logits."""
    start: Tensor
    """The model's logits before training."""
    before: dict[str, Tensor]
    """Its tensors then."""
    out: Tensor
    """Its logits now."""
    folder: Path
    """Where it is saved."""
    size: int
    """Of the saved tensors' file, as the method says."""


@pytest.fixture(scope="module")
def fits():
    """What `fitted` has made, by method and task."""
    return {}


@pytest.fixture
def fitted(name, spec, plain, tuned, train, logits, batch, task, fits, tmp_path_factory):
    """The method, trained a little on the task and saved: made once for all tests."""
    key = name, task.name
    if key not in fits:
        method = spec(f"peft={name}").peft
        backbone = plain()
        own = {parameter for parameter, _ in backbone.named_parameters()}
        targets = target_modules(backbone, method.target, head_of(backbone)) if name in TARGETED else []
        untuned = logits(backbone)
        model, context = tuned(method, model=backbone)
        before = copies(model)
        method.calibrate(model, [batch.inputs])
        start = logits(model)
        train(model)
        folder = tmp_path_factory.mktemp(name)
        size = method.save(model, folder, context)
        fits[key] = Fitted(method, model, context, own, targets, untuned, start, before, logits(model), folder, size)
    return fits[key]


@pytest.fixture
def saved(fitted, tmp_path):
    """A copy of the trained model that may be changed, its method, and the folder with a copy of what it saved."""
    shutil.copytree(fitted.folder, tmp_path / "adapter")
    return copy.deepcopy(fitted.model), fitted.method, tmp_path / "adapter"


class EveryMethod:
    """What follows from `fitted` alone."""

    def test_the_head_is_trained_and_the_exact_rest(self, name, fitted):
        method, model, own = fitted.method, fitted.model, fitted.own
        found, head = trainable(model), head_in(model, fitted.context)
        assert head
        assert head <= found
        assert set(method.trained(model)) >= found
        if isinstance(method, Full):
            assert found == own
        elif isinstance(method, Sliced):
            assert found == {key for key in own if ".layer.1." not in key}  # there are two blocks
        elif isinstance(method, Head):
            assert found == head
        elif isinstance(method, BitFit):
            assert found == head | {key for key in own if key.endswith(".bias")}
        elif isinstance(method, TopLayers):
            assert found == head | {key for key in own if ".layer." in key}  # there are two blocks
        elif isinstance(method, Combined):
            plain_names = set(map(unwrapped, found - head))
            biases = {key for key in own if key.endswith(".bias") and not is_of_head(key, fitted.context.head)}
            assert plain_names & own == biases
            assert all(".lora_" in key for key in plain_names - own)
            assert plain_names - own
        elif isinstance(method, Insertion):
            norms = {key for key in own if ".layer." in key and ".LayerNorm." in key}
            assert found - head - norms
            assert (found - head) & own == (norms if isinstance(method, TwoAdapters) else set())
            assert {key for key, _ in model.named_parameters()} == found | own
        elif isinstance(method, LibraryMethod):
            plain_names = set(map(unwrapped, found - head))
            assert not plain_names & own
            shared = {key for key in found if name in SHARED and SHARED[name] in key}
            assert bool(shared) == (name in SHARED)
            adapters = found - head - shared
            assert all(any(f".{target}." in adapter for target in fitted.targets) for adapter in adapters)
            if name not in ONLY_SHARED:
                assert all(any(f".{target}." in adapter for adapter in adapters) for target in fitted.targets)
        else:
            pytest.fail(f"say here what {type(method).__name__} trains")

    def test_at_start_it_is_the_plain_backbone(self, name, fitted, plain, logits):
        rounding = 1e-5 if name in REWRITES_ITS_BASE else 1e-6
        if name in CHANGES_AT_START:
            assert not torch.equal(fitted.untuned, fitted.start)
        else:
            torch.testing.assert_close(fitted.untuned, fitted.start, atol=rounding, rtol=0)
        assert not torch.allclose(fitted.untuned, logits(plain(seed=1)), atol=1e-6)

    def test_training_changes_what_is_trainable_and_nothing_else(self, name, fitted):
        after = fitted.model.state_dict(keep_vars=True)
        changed = {key for key, tensor in fitted.before.items() if not torch.equal(tensor, after[key])}
        idle = {key for key in after if name in SCALES_BIASES and SCALES_BIASES[name] in key}
        designed = BY_ROUNDING_ALONE | DESIGNED
        either = {key for key in after if name in designed and designed[name] in key}
        assert changed - either == {key for key, tensor in after.items() if tensor.requires_grad} - idle - either
        assert not torch.allclose(fitted.start, fitted.out, atol=1e-3)

    def test_the_checkpoint_makes_a_new_model_the_same_and_the_seed_decides_all_that_is_random(
        self, name, fitted, tuned, logits
    ):
        again, _ = tuned(fitted.method)
        found = copies(again)
        assert all(torch.equal(found[key], tensor) for key, tensor in fitted.before.items())
        held = fitted.method.trained(fitted.model)
        for key, tensor in fitted.method.trained(again).items():
            tensor.data.copy_(held[key])
        assert torch.equal(logits(again), fitted.out)

    def test_what_is_saved_makes_a_new_model_the_same(self, name, fitted, tuned, logits):
        loaded, _ = tuned(fitted.method, seed=5)
        assert not all(torch.equal(tensor, fitted.before[key]) for key, tensor in copies(loaded).items())
        assert not torch.equal(logits(loaded), fitted.out)
        fitted.method.load(loaded, fitted.folder)
        assert torch.equal(logits(loaded), fitted.out)
        assert trainable(loaded) == trainable(fitted.model)
        pairs = zip(loaded.parameters(), fitted.model.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs if a.requires_grad)

    def test_merged_it_is_a_plain_model_with_the_same_logits(self, name, fitted, plain, logits):
        model = copy.deepcopy(fitted.model)
        assert torch.equal(logits(model), fitted.out)
        if not fitted.method.mergeable:
            with pytest.raises(UserError, match=name):
                fitted.method.merge(model)
            return
        merged = fitted.method.merge(model)
        assert type(merged) is type(plain())
        left = [key for key in plain().state_dict() if not isinstance(fitted.method, Sliced) or ".layer.1." not in key]
        assert [*merged.state_dict()] == left
        torch.testing.assert_close(logits(merged), fitted.out, atol=1e-5, rtol=1e-4)

    @pytest.mark.one_in(3, "exhaustive")
    @pytest.mark.one_in(6, "slow")
    def test_its_changes_are_those_of_the_pretrained_weights_and_the_soup_of_it_alone_is_it(
        self, name, fitted, plain, pretrained, task, logits, tmp_path
    ):
        parts = SimpleNamespace(peft=fitted.method, task=task)
        adapted = functools.partial(copy.deepcopy, fitted.model)
        run = SimpleNamespace(
            parts=parts, pretrained=pretrained, adapted=adapted, folder=SimpleNamespace(path="of the run")
        )
        if not fitted.method.mergeable:
            with pytest.raises(UserError, match=f"of the run: peft={name} adds .* Leave it out, or average"):
                changes(run)
            return
        if name == "sliced":  # nothing of other runs has its shape
            with pytest.raises(UserError, match="its model is not made like the pretrained one"):
                changes(run)
            return
        found, again = changes(run), plain(seed=7)
        for key, parameter in again.named_parameters():
            parameter.data = found.fresh.get(key, parameter.data + found.of_pretrained.get(key, 0))
        torch.testing.assert_close(logits(again), fitted.out, atol=1e-5, rtol=1e-4)
        assert found.of_pretrained or name == "head"  # of texts, it trains BERT's pooler, too
        assert set(found.fresh) == {"classifier.weight", "classifier.bias"}

        shelf = Shelf(tmp_path, original_weights(run))
        shelf.add(run, task.labels)
        soup, merged = plain(seed=8), fitted.method.merge(adapted())
        merge_into(soup, shelf, Soup(), [0])
        assert all(torch.equal(a, b) for a, b in zip(soup.parameters(), merged.parameters(), strict=True))

    def test_the_files(self, name, fitted, pretrained):
        """They hold no frozen weight of the backbone, name its origin, and no folder of this machine."""
        tensors = {key: t for file in fitted.folder.glob("*.safetensors") for key, t in load_file(file).items()}
        assert fitted.size == sum(file.stat().st_size for file in fitted.folder.glob("*.safetensors"))
        assert sum(t.numel() for t in tensors.values()) >= fitted.method.count(fitted.model)["trainable_parameters"]
        trained, stored = (
            {key for key in map(unwrapped, keys) if key in fitted.own and not is_of_head(key, fitted.context.head)}
            for keys in (trainable(fitted.model), tensors)
        )
        assert stored == trained
        description = json.loads((fitted.folder / "adapter_config.json").read_text())
        assert pretrained.origin in description.values()
        texts = [value for value in description.values() if isinstance(value, str) and value != pretrained.origin]
        folders = str(pretrained.folder), str(fitted.folder.parent)
        assert not any(folder in text for text in texts for folder in folders)

    def test_counts(self, name, fitted):
        sizes = {key: parameter.numel() for key, parameter in fitted.model.named_parameters()}
        spare = sum(size for key, size in sizes.items() if ".original_module." in key)
        count = fitted.method.count(fitted.model)
        assert count["trainable_parameters"] == sum(sizes[key] for key in trainable(fitted.model))
        assert count["total_parameters"] == sum(sizes.values()) - spare


@each("name", tiers(METHODS, slow=METHODS))
class TestEveryMethod(EveryMethod):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(("name", "learnt"), [(name, "classification") for name in ON_TEXTS], indirect=["learnt"])
class TestOnTexts(EveryMethod):
    pass


@pytest.mark.one_in(3, "exhaustive")
@each("name", tiers(METHODS, default=SOME))
def test_frozen_weights_in_bf16_change_no_bit(name, fitted, batch):
    """Of the outputs and gradients under autocast, whatever the method does with the weights."""
    found = []
    for stored in (False, True):
        model = copy.deepcopy(fitted.model)
        model.zero_grad()
        if stored:
            store_in_bf16(model)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(**batch.inputs).logits
        logits.float().square().mean().backward()
        found.append([logits, *(p.grad for p in model.parameters() if p.requires_grad)])
    assert all(torch.equal(first, second) and first.isfinite().all() for first, second in zip(*found, strict=True))


@pytest.mark.one_in(3, "exhaustive")
@each("name", tiers(METHODS, default=SOME))
def test_gradient_checkpointing_changes_no_step(name, plain, tuned, fitted, train, batch):
    method = fitted.method
    backbone = plain()
    backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model, _ = tuned(method, model=backbone)
    method.calibrate(model, [batch.inputs])
    train(model)
    for key, tensor in model.named_parameters():
        if tensor.requires_grad:
            torch.testing.assert_close(tensor, fitted.model.get_parameter(key), atol=1e-6, rtol=1e-4)


@each("name", tiers(ONE_OF_EACH_CLASS, default=SOME))
class TestFilesOfEveryClass:
    def test_saving_leaves_the_model_alone(self, saved, logits, train):
        model, method, _ = saved
        before = trainable(model)
        assert before <= set(method.trained(model))
        out = logits(model)
        train(model)
        assert not torch.equal(logits(model), out)

    def test_tensors_of_another_shape_are_refused(self, saved, spec, tuned):
        _, method, folder = saved
        other = spec("task=ner").task
        other.learn_labels({"train": []}, ["LOC", "PER"])
        loaded, _ = tuned(method, task=other)
        before = copies(loaded)
        with pytest.raises(ValueError, match="has shape"):
            method.load(loaded, folder)
        assert all(torch.equal(tensor, before[key]) for key, tensor in copies(loaded).items())

    def test_it_is_begun_with_and_a_head_for_other_labels_is_not(self, saved, spec, tuned):
        model, method, folder = saved
        other = spec("task=ner").task
        other.learn_labels({"train": []}, ["LOC", "PER"])
        for task, new in ((None, []), (other, ["bias", "weight"])):
            begun, context = tuned(method, seed=7, **({"task": task} if task else {}))
            assert [key.split(".")[-1] for key in method.adopt(begun, folder, context)] == new
            trained = method.trained(model)
            assert all(
                torch.equal(tensor, trained[key])
                for key, tensor in method.trained(begun).items()
                if tensor.shape == trained[key].shape and ".rank_schedule" not in f".{key}"
            )

    def test_one_of_another_kind_is_not_begun_with(self, saved, tuned):
        _, method, folder = saved
        description = json.loads((folder / "adapter_config.json").read_text())
        key = "method" if "method" in description else "peft_type"
        (folder / "adapter_config.json").write_text(json.dumps(description | {key: "ANOTHER"}))
        begun, context = tuned(method)
        with pytest.raises(ConfigError, match="it is of the method ANOTHER"):
            method.adopt(begun, folder, context)

    def test_a_tensor_too_few_is_refused(self, saved, tuned):
        _, method, folder = saved
        stored = load_file(folder / "adapter_model.safetensors")
        lost = sorted(stored)[0]
        save_file({key: tensor for key, tensor in stored.items() if key != lost}, folder / "adapter_model.safetensors")
        with pytest.raises(ValueError, match=f"1 tensors are only in the file or only in the model, first {lost}"):
            method.load(tuned(method)[0], folder)
        begun, context = tuned(method)
        if is_of_head(lost, context.head):
            assert method.adopt(begun, folder, context) == [lost]
        else:
            with pytest.raises(ConfigError, match=f"1 of its tensors do not fit .*, first {lost}, only in the model"):
                method.adopt(begun, folder, context)


DECIDES = set(
    re.findall(
        r"\w+",
        """
    act_fn alora_invocation_tokens alpha alpha_pattern apply_GS ab_svd_init arrow_config bias block_share block_size
    block_size_pattern boft_block_num boft_block_size boft_n_butterfly_factor cayley_neumann_eps coft config_A_B
    config_C config_D_E corda_config decompose_both decompose_factor decomposition_method delora_lambda depth
    effective_rank ensure_weight_tying eps fan_in_fan_out generator_seed gralora_k group_size hybrid_r kasa_config
    lambda_pattern layer_replication loftq_config lora_alpha lora_bias lora_ga_config mask_type megatron_config
    megatron_core mini_r monteclora_config n_frequency n_frequency_pattern n_skills n_splits n_tasks num_B
    num_cayley_neumann_terms num_subspaces num_vectors oft_block_size para poly_type proj_seed projection_prng_key
    projection_seed proportional_parameters psoft_alpha psoft_mag_a psoft_mag_b psoft_orth psoft_svd
    psoft_svd_lowrank_niter qalora_group_size r randlora_alpha random_loc_seed random_seed rank_pattern
    regularization_alpha runtime_offload_base_weight sample_at_inference save_indices save_only_topk_weights
    save_precomputed_indices save_projection scaling select_top shadow_alpha shadow_hidden_size
    shadow_intermediate_size shadow_model shadow_num_attention_heads shadow_num_hidden_layers share_embeddings sparse
    sparse_rate sparsity stride_A subspace_rank svd_threshold target_parameters target_r target_svd_config
    theta_d_length topk trainable_token_indices u update_hidden_size use_asa use_bdlora use_cayley_neumann use_dora
    use_dynamic_rank use_effective_conv2d use_idwt use_qalora use_rslora variant vector_length velora_config
    very_sparse wavelet_family weight_tying
    """,
    )
)
"""The options of the library that say what an adapter computes: an adapter with other values is refused."""

ONLY_BEGINNINGS = {"gaussian", "eva", "orthogonal", "mica", "kaiming_uniform", "xavier_uniform", "lycoris"}
MORE_THAN_BEGINNINGS = {"olora", "pissa", "pissa_niter_[number of iters]", "corda", "loftq", "bat", "mini"}
"""Values of options that say how an adapter begins, after which its weights compute something else."""


def test_of_every_option_of_the_library_it_is_said_whether_it_decides():
    """A new version of the library may bring one: find out which it is, and add it to `BESIDE` or to `DECIDES`."""
    configs = PEFT_TYPE_TO_CONFIG_MAPPING.values()
    options = {tuple(inspect.signature(config).parameters) for config in configs}
    known = {key for keys in options if {"target_modules", "modules_to_save"} <= set(keys) for key in keys}
    assert sorted(known - BESIDE - DECIDES) == []
    assert sorted((BESIDE | DECIDES) - known) == []
    assert not BESIDE & DECIDES


def test_of_every_way_to_begin_it_is_said_whether_it_does_more():
    hints = [get_type_hints(config) for config in PEFT_TYPE_TO_CONFIG_MAPPING.values()]
    kinds = [hint[key] for hint in hints if "target_modules" in hint for key in BEGINNING if key in hint]
    named = {value for kind in kinds for part in get_args(kind) for value in get_args(part) if isinstance(value, str)}
    assert named == ONLY_BEGINNINGS | MORE_THAN_BEGINNINGS
    lora = LibraryMethod(name="lora", learning_rate=1, peft_type="LORA")
    assert {value for value in named if lora.decides("init_weights", value)} == MORE_THAN_BEGINNINGS


class TestEveryMethodOfTheLibrary:
    @each("name", tiers(TARGETED, slow=TARGETED))
    def test_only_the_target_is_adapted(self, name, spec, tuned):
        target = "layer_norms" if FILES[name].target == "layer_norms" else "attention"
        model, context = tuned(spec(f"peft={name}", f"peft.target={target}", "peft.layers=last:1").peft)
        adapters = {
            key for key in trainable(model) - head_in(model, context) if name not in SHARED or SHARED[name] not in key
        }
        expected = ATTENTION if target == "attention" else NORMS
        assert all(any(f".layer.1.{part}." in key for part in expected) for key in adapters)
        if name not in ONLY_SHARED:
            assert all(any(f".layer.1.{part}." in key for key in adapters) for part in expected)

    @each("name", tiers(TARGETED))
    def test_the_library_itself_loads_what_is_saved(self, name, saved, plain, logits):
        model, _, folder = saved
        assert not model.peft_config["default"].inference_mode
        loaded = peft.PeftModel.from_pretrained(plain(seed=8), folder)
        assert torch.equal(logits(loaded), logits(model))
        merged = loaded.merge_and_unload()
        assert not any(isinstance(module, peft.PeftModel) for module in merged.modules())
        torch.testing.assert_close(logits(merged), logits(model), atol=1e-5, rtol=1e-4)

    @pytest.mark.one_in(4, "slow")
    @each("name", [name for name in TARGETED if name in OFTEN])  # the next test begins with those of all
    def test_an_adapter_of_the_librarys_own_is_begun_with(self, fitted, of_the_library, tuned, logits):
        theirs, folder = of_the_library
        ours, context = tuned(fitted.method, seed=5)
        assert fitted.method.adopt(ours, folder, context) == []
        assert torch.equal(logits(ours), logits(theirs))
        assert trainable(ours) == trainable(fitted.model)

    @each("name", tiers(TARGETED, default=[]))
    def test_there_and_back(self, fitted, of_the_library, plain, tuned, logits, tmp_path):
        """From the library to a run, and from what that saves to the library again."""
        theirs, folder = of_the_library
        ours, context = tuned(fitted.method, seed=5)
        fitted.method.adopt(ours, folder, context)
        fitted.method.save(ours, tmp_path / "back", context)
        save_labels(["a", "b"], tmp_path / "back")  # of which the library takes no notice
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Unexpected keyword arguments")
            again = peft.PeftModel.from_pretrained(plain(seed=8), tmp_path / "back")
        torch.testing.assert_close(logits(again), logits(theirs), atol=1e-6, rtol=0)

    @pytest.fixture
    def of_the_library(self, fitted, plain, train, tmp_path):
        """A model that the library alone has made and trained, and the folder with what it saved."""
        theirs, method = plain(seed=3), fitted.method
        options = method._options_for(theirs, fitted.context, fitted.targets)
        config = PEFT_TYPE_TO_CONFIG_MAPPING[method.peft_type](
            task_type="TOKEN_CLS", target_modules=fitted.targets, **options
        )
        theirs = peft.get_peft_model(theirs, config)
        train(theirs)
        theirs.save_pretrained(tmp_path / "theirs")
        return theirs, tmp_path / "theirs"


@pytest.mark.parametrize("name", tiers(LORA))
def test_groups_of_targets(name, spec, tuned):
    for target, layers in {"all_linear": 12, "attention": 8, "mlp": 4, "[query]": 2}.items():
        model, context = tuned(spec(f"peft={name}", f"peft.target={target}").peft)
        adapters = trainable(model) - head_in(model, context)
        assert len({key.split(".layer.")[1].split(".lora_")[0] for key in adapters}) == layers, target


def test_a_target_that_matches_nothing(spec, tuned):
    with pytest.raises(ConfigError) as error:
        tuned(spec("peft=lora", "peft.target=[value,qery]").peft)
    assert str(error.value) == (
        "peft.target: no layer is called 'qery'. Did you mean 'query'? "
        "Allowed: all_linear, attention, mlp, layer_norms, or names of modules: LayerNorm, dense, key, query, value"
    )


@pytest.mark.parametrize("name", ["top_layers", "bitfit"])
@pytest.mark.parametrize(("layers", "number"), [("last:1", 1), ("first:1", 0), ("[1]", 1)])
def test_our_own_selections_of_blocks(name, layers, number, spec, tuned):
    model, context = tuned(spec(f"peft={name}", f"peft.layers={layers}").peft)
    block = {key for key, _ in model.named_parameters() if f".layer.{number}." in key}
    expected = {key for key in block if name == "top_layers" or key.endswith(".bias")}
    assert trainable(model) == head_in(model, context) | expected


def test_bitfit_needs_biases(spec, tuned, plain):
    model = plain()
    for module in model.bert.modules():
        if getattr(module, "bias", None) is not None:
            module.register_parameter("bias", None)
    with pytest.raises(ConfigError, match="peft=bitfit: BertForTokenClassification has no biases there"):
        tuned(spec("peft=bitfit").peft, model=model)


@pytest.mark.slow
@pytest.mark.parametrize("name", tiers(STRENGTHS))
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


@pytest.mark.parametrize("name", tiers(LORA))
def test_lora_has_the_size_of_the_formula(name, spec, tuned, task):
    attention, mlp = [(32, 32)] * 4, [(32, 64), (64, 32)]
    layers, labels = 2, len(task.labels)
    for target, shapes in {"all_linear": attention + mlp, "attention": attention, "mlp": mlp}.items():
        method = spec(f"peft={name}", f"peft.target={target}", "peft.r=3").peft
        adapter = layers * sum(3 * (inputs + outputs) for inputs, outputs in shapes)
        model, _ = tuned(method)
        assert method.count(model)["trainable_parameters"] == adapter + 32 * labels + labels, target


@each("name", tiers(SIZES, slow=SIZES))
def test_its_size_is_that_of_the_formula(name, fitted, plain):
    layers = [plain().get_submodule(target) for target in fitted.targets]
    assert len(layers) == 12
    size = sum(SIZES[name](layer.in_features, layer.out_features, FILES[name]) for layer in layers)
    size += SHARED_SIZES.get(name, lambda _: 0)(FILES[name])
    assert fitted.method.count(fitted.model)["trainable_parameters"] == size + size_of_head(fitted)


@pytest.mark.parametrize(
    ("name", "size"), [("ia3", 2 * (4 * 32 + 32 + 64)), ("ln_tuning", 4 * 64), ("beft", 2 * 4 * 32)]
)
def test_the_size_of_vectors(name, size, fitted):
    """IA3 scales what attention gives and the feed-forward layers get (Liu et al. 2022, section 3.3)."""
    assert fitted.method.count(fitted.model)["trainable_parameters"] == size + size_of_head(fitted)


@pytest.mark.parametrize("name", tiers(LORA))
def test_lora_trains_a_pair_of_matrices_a_layer(name, spec, tuned):
    model, _ = tuned(spec(f"peft={name}").peft)
    inside = "base_model.model.bert.encoder.layer"
    layers = [*ATTENTION, "intermediate.dense", "output.dense"]
    head = {f"base_model.model.classifier.modules_to_save.default.{part}" for part in ("weight", "bias")}
    assert trainable(model) == head | {
        f"{inside}.{n}.{layer}.lora_{matrix}.default.weight" for n in range(2) for layer in layers for matrix in "AB"
    }
