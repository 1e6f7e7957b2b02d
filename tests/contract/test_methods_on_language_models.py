"""Every method of ``conf/peft/`` on models that generate: it trains what it should and writes with a cache, or says why
not. A new file there is tested without a change here.
"""

from __future__ import annotations

import copy
import functools
import re

import peft
import pytest
import torch
from tests.method_files import CHANGES_AT_START, FILES, METHODS, ONE_OF_EACH_CLASS
from tests.tiny_models import DECODERS, ENCODER_DECODERS
from transformers import AutoConfig

from peftlab.errors import ConfigError
from peftlab.methods.head import head_of
from peftlab.methods.library import LibraryMethod
from peftlab.methods.method import MethodContext
from peftlab.methods.prompts import Prompts
from peftlab.tasks.networks.heads import (
    CAUSAL_LM,
    SEQ2SEQ_LM,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
    model_class,
)

FITTING = {
    "c3a": ["block_size=8"],
    "fourierft": ["n_frequency=100"],
    "oft": ["oft_block_size=8"],
    "psoft": ["r=8"],
    "road": ["group_size=8"],
    "vblora": ["vector_length=8"],
    "waveft": ["n_frequency=100"],
}
"""Options that fit the sizes of tiny models, whose keys and values have 8 to 32 numbers."""

NOT_OF_LIBRARY_ON_GPT2 = {
    *("adamss", "beft", "c3a", "delora", "glora", "hra", "loha", "lokr", "miss", "oft", "olora", "osf", "peanut"),
    *("psoft", "road", "shira", "supertuning"),
}
"""Methods of the library that adapt no layers of the class of GPT-2's."""
WITHOUT_BIASES = {"llama", "qwen3", "gemma3", "t5"}
REFUSED = {
    **{("head", kind): "is pretrained, .* such as top_layers or lora" for kind in (*DECODERS, *ENCODER_DECODERS)},
    **{("unipelt", kind): "Use peft=mam" for kind in (*DECODERS, *ENCODER_DECODERS)},
    **{(name, kind): "needs a model with biases" for name in ("bitfit", "combined") for kind in WITHOUT_BIASES},
    **{(name, "gpt2"): "choose another method, such as lora, ia3 or houlsby" for name in NOT_OF_LIBRARY_ON_GPT2},
}
"""What cannot work, and what it says."""

MERGES_NOT = {("beft", kind) for kind in WITHOUT_BIASES}
"""Adapters that consist of biases, on layers that have none."""

NOT_READ_BY_LIBRARY = {("prefix_tuning", kind) for kind in ("t5", "bart", "gemma3")}
"""What the library would make something else of, see `PrefixTuning.is_read_by_library`."""

BY_ROUNDING_ALONE = re.compile(r"k_proj\.(.*\.)?(bias|glora_[CE])|k_proj\.(base_layer\.)?bias")
"""Biases of keys, which shift all weights of a query alike."""

OWN = [name for name in METHODS if "library" not in FILES[name]._target_]
PAIRS = [(name, kind) for name in METHODS for kind in ("llama", "gpt2", "t5") if (name, kind) not in REFUSED]
PAIRS += [(name, kind) for name in OWN for kind in ("qwen3", "gemma3", "bart") if (name, kind) not in REFUSED]
DEFAULT = {("lora", "llama"), ("houlsby", "t5"), ("prefix_tuning", "llama"), ("prompt_tuning", "gpt2")}
DEFAULT |= {("prefix_tuning", "t5")}
SLOW = {(name, kind) for number, name in enumerate(ONE_OF_EACH_CLASS) for kind in ("llama", "gpt2", "t5")}
SLOW |= {("prefix_tuning", "gemma3"), ("prompt_tuning", "gemma3"), ("prefix_tuning", "bart"), ("prompt_tuning", "bart")}


def tiers(pairs, default=DEFAULT):
    marks = {pair: pytest.mark.slow if pair in SLOW else pytest.mark.exhaustive for pair in pairs}
    return [pytest.param(*pair, marks=() if pair in default else mark) for pair, mark in marks.items()]


each = functools.partial(pytest.mark.parametrize, ("name", "kind"))

IDS = torch.arange(10, 42).reshape(2, 16)


def inputs_of(kind):
    inputs = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    return inputs if kind in DECODERS else inputs | {"decoder_input_ids": IDS.flip(1)[:, :9]}


@pytest.fixture(scope="module")
def backbone(language_model):
    """Return a maker of one of the tiny models, with biases that are not zero, as those of pretrained models."""

    @functools.cache
    def loaded(kind):
        head = CAUSAL_LM if kind in DECODERS else SEQ2SEQ_LM
        model = model_class(head).from_pretrained(language_model(kind)).eval()
        torch.manual_seed(3)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
        return model

    return lambda kind: copy.deepcopy(loaded(kind))


@pytest.fixture
def tuned(backbone, spec):
    """Return a maker of a tiny model with a method, both seeded; with the method and the context."""

    def make(name, kind, seed=0, model=None):
        method = spec(f"peft={name}", *(f"peft.{option}" for option in FITTING.get(name, []))).peft
        model = backbone(kind) if model is None else model
        head = CAUSAL_LM if kind in DECODERS else SEQ2SEQ_LM
        context = MethodContext((), head.task_type, "made here", head.outputs)
        torch.manual_seed(seed)
        return method.apply(model, context).eval(), method, context

    return make


@torch.no_grad()
def logits(model, kind):
    return model.eval()(**inputs_of(kind)).logits


def train(model, method, kind, number=3, calibrated=False):
    torch.manual_seed(1)
    if not calibrated:
        method.calibrate(model, [inputs_of(kind)])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    model.train()
    for _ in range(number):
        optimizer.zero_grad()
        model(**inputs_of(kind)).logits.square().mean().backward()
        optimizer.step()
    model.eval()


@torch.no_grad()
def step_by_step(model, kind):
    """Return the logits that the cache gives token by token."""
    inputs, made, past = inputs_of(kind), [], None
    key = "input_ids" if kind in DECODERS else "decoder_input_ids"
    tokens = inputs.pop(key)
    for n in range(tokens.shape[1]):
        if kind in DECODERS:
            inputs["attention_mask"] = torch.ones(len(tokens), n + 1).long()
        outputs = model(**inputs, **{key: tokens[:, n : n + 1]}, past_key_values=past, use_cache=True)
        past = outputs.past_key_values
        made.append(outputs.logits)
        if kind in ENCODER_DECODERS:
            inputs = {
                "encoder_outputs": (outputs.encoder_last_hidden_state,),
                "attention_mask": inputs["attention_mask"],
            }
    return torch.cat(made, dim=1)


def written(model, rows, kind):
    """Return the tokens after each of `rows`, which are padded as a model of this kind needs it."""
    longest = max(map(len, rows))
    pads = [[0] * (longest - len(row)) for row in rows]
    pairs = list(zip(pads, rows, strict=True))
    ids = torch.tensor([[*pad, *row] if kind in DECODERS else [*row, *pad] for pad, row in pairs])
    made = model.generate(
        input_ids=ids, attention_mask=(ids > 0).long(), max_new_tokens=6, min_new_tokens=6, do_sample=False
    )
    return made[:, -6:].tolist()


def tied(model):
    base = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    return base.get_output_embeddings().weight is base.get_input_embeddings().weight


@pytest.mark.slow
def test_what_cannot_work_says_what_to_use(tuned):
    for (name, kind), message in REFUSED.items():
        with pytest.raises(ConfigError, match=message):
            tuned(name, kind)


@pytest.mark.slow
@pytest.mark.one_in(5, "exhaustive")
@each(tiers(PAIRS))
def test_it_trains_what_it_should_and_writes_with_a_cache(name, kind, tuned, backbone, tmp_path):
    plain = backbone(kind)
    model, method, context = tuned(name, kind)
    if name not in CHANGES_AT_START:
        torch.testing.assert_close(logits(model, kind), logits(plain, kind), atol=1e-5, rtol=1e-4)
    method.calibrate(model, [inputs_of(kind)])  # which may set what is then frozen
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    train(model, method, kind, calibrated=True)

    changed = {key for key, parameter in model.named_parameters() if not torch.equal(parameter, before[key])}
    trainable = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert changed
    assert changed <= trainable
    assert not {key for key in trainable - changed if not BY_ROUNDING_ALONE.search(key)}
    assert tied(model) == tied(plain)
    if name not in ("full", "sliced"):
        embeddings = model.get_input_embeddings().weight
        assert torch.equal(embeddings, plain.get_input_embeddings().weight)
        assert not embeddings.requires_grad

    out = logits(model, kind)
    assert out.shape == logits(plain, kind).shape
    torch.testing.assert_close(step_by_step(model, kind), out, atol=1e-5, rtol=1e-5)
    rows = [IDS[0, :5].tolist(), IDS[1].tolist()]
    assert written(model, rows, kind) == [*written(model, rows[:1], kind), *written(model, rows[1:], kind)]

    method.save(model, tmp_path, context)
    loaded, *_ = tuned(name, kind, seed=5)
    method.load(loaded, tmp_path)
    assert torch.equal(logits(loaded, kind), out)
    if isinstance(method, LibraryMethod | Prompts):
        if name == "prefix_tuning" and kind in (
            "t5",
            "bart",
            "gemma3",
        ):  # of which the library would make something else
            with pytest.raises(KeyError, match="peft_type"):
                peft.PeftModel.from_pretrained(plain, tmp_path)
        else:
            theirs = logits(peft.PeftModel.from_pretrained(plain, tmp_path), kind)
            torch.testing.assert_close(theirs[:, -out.shape[1] :], out, atol=1e-5, rtol=1e-5)
    if method.mergeable and (name, kind) not in MERGES_NOT:
        torch.testing.assert_close(logits(method.merge(model), kind), out, atol=1e-5, rtol=1e-4)


@pytest.mark.one_in(10, "exhaustive")
@each(tiers(PAIRS, default={("prefix_tuning", "llama"), ("prompt_tuning", "t5")}))
def test_it_trains_alike_with_activations_computed_again_and_in_bf16(name, kind, tuned, backbone):
    checkpointing = backbone(kind)
    checkpointing.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    gradients = []
    for plain, rounds in ((None, False), (checkpointing, False), (None, True)):
        model, *_ = tuned(name, kind, model=plain)
        model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=rounds):
            made = model(**inputs_of(kind), use_cache=False).logits
        made.float().square().mean().backward()
        gradients.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    whole, again, rounded = gradients
    assert whole.keys() == again.keys() == rounded.keys()
    for key, gradient in whole.items():
        torch.testing.assert_close(again[key], gradient, atol=1e-7, rtol=1e-4)
    norms = [torch.stack([gradient.norm() for gradient in each.values()]).norm() for each in (whole, rounded)]
    torch.testing.assert_close(*norms, rtol=0.1, atol=0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "llama") for name in ("lora", "prefix_tuning")]
    + [pytest.param("mam", kind, marks=pytest.mark.slow) for kind in DECODERS],
)
def test_texts_that_share_a_row_see_nothing_of_each_other(name, kind, tuned, backbone):
    """With positions that begin anew and no mask, and with a mask of blocks."""
    for attention in ("eager", "sdpa"):
        plain = backbone(kind)
        plain.set_attn_implementation(attention)
        model, method, _ = tuned(name, kind, model=plain)
        train(model, method, kind)
        texts = [IDS[0, :7], IDS[1, 3:9]]
        apart = torch.cat([model(input_ids=text[None], use_cache=False).logits[0] for text in texts])
        ids, numbers = torch.cat(texts)[None], torch.cat([torch.arange(len(text)) for text in texts])[None]
        packed = model(input_ids=ids, position_ids=numbers, use_cache=False).logits[0]
        torch.testing.assert_close(packed, apart, atol=1e-5, rtol=1e-4)
        blocks = torch.block_diag(*[torch.ones(len(text), len(text)).tril() for text in texts]).bool()[None, None]
        mask = blocks if attention == "sdpa" else torch.zeros(blocks.shape).masked_fill(~blocks, -torch.inf)
        masked = model(input_ids=ids, position_ids=numbers, attention_mask=mask, use_cache=False).logits[0]
        torch.testing.assert_close(masked, apart, atol=1e-5, rtol=1e-4)


def test_virtual_tokens_before_several_texts_are_refused(tuned, spec):
    assert spec("task=causal_lm", "peft=prefix_tuning").task.packs
    assert not spec("task=causal_lm", "task.packing=off", "peft=prompt_tuning").task.packs
    with pytest.raises(ConfigError, match=r"peft=prompt_tuning: .* once a row, .* Set task\.packing=off"):
        spec("task=causal_lm", "peft=prompt_tuning")
    model, *_ = tuned("prompt_tuning", "llama")
    with pytest.raises(ConfigError, match=r"set task\.packing=off"):
        model(input_ids=IDS, attention_mask=torch.ones(2, 1, 16, 16).tril().bool())


@each([("prompt_tuning", "llama"), pytest.param("prefix_tuning", "gpt2", marks=pytest.mark.slow)])
def test_all_beams_of_a_text_have_it(name, kind, tuned):
    """The last of them also when there is no cache, which gives the same."""
    model, method, _ = tuned(name, kind)
    train(model, method, kind)
    options = {"max_new_tokens": 5, "num_beams": 3, "do_sample": False}
    mask = torch.ones_like(IDS)
    cached, anew = (
        model.generate(input_ids=IDS, attention_mask=mask, use_cache=use, **options) for use in (True, False)
    )
    assert torch.equal(cached, anew)
    assert cached.shape[1] > IDS.shape[1]


@pytest.mark.parametrize("name", ["prefix_tuning", pytest.param("mam", marks=pytest.mark.slow)])
def test_a_decoder_with_more_blocks_than_its_encoder(name, tuned, language_model):
    config = AutoConfig.from_pretrained(language_model("t5"), num_decoder_layers=3)
    model, method, _ = tuned(name, "t5", model=model_class(SEQ2SEQ_LM).from_config(config))
    train(model, method, "t5")
    torch.testing.assert_close(step_by_step(model, "t5"), logits(model, "t5"), atol=1e-5, rtol=1e-5)


@pytest.fixture
def labelling(language_model, spec):
    """Return a function that applies a method to a tiny model with a head for labels, and returns the plain one too."""

    def make(name, kind, head):
        plain = model_class(head).from_pretrained(language_model(kind), num_labels=3).eval()
        method, model = spec(f"peft={name}").peft, copy.deepcopy(plain)
        context = MethodContext(head_of(plain), head.task_type, "made here", head.outputs)
        return method.apply(model, context).eval(), plain, method, context

    return make


@pytest.mark.parametrize("name", ["prefix_tuning", "prompt_tuning"])
def test_the_library_reads_what_labels_a_text_alike_or_not_at_all(name, labelling, tmp_path):
    """Of virtual tokens before a padded text, it would read the padding."""
    model, plain, method, context = labelling(name, "llama", SEQUENCE_CLASSIFICATION)
    method.save(model, tmp_path, context)
    if name == "prompt_tuning":
        with pytest.raises(KeyError, match="peft_type"):
            peft.PeftModel.from_pretrained(plain, tmp_path)
        return
    ids = torch.cat([IDS, torch.tensor([[0, 0], [50, 51]])], 1)
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    with torch.no_grad():
        theirs = peft.PeftModel.from_pretrained(plain, tmp_path).eval()(**inputs).logits
        torch.testing.assert_close(theirs, model(**inputs).logits)


@pytest.mark.slow
def test_what_labels_no_text_says_so(labelling):
    for kind in ("llama", "t5"):
        with pytest.raises(ConfigError, match=r"peft=unipelt: .* each sees only the ones before it\. Use peft=mam"):
            labelling("unipelt", kind, SEQUENCE_CLASSIFICATION)
    for name in ("prefix_tuning", "mam", "unipelt"):  # of T5, the labels of tokens are read off the encoder alone
        with pytest.raises(ConfigError, match=rf"peft={name}: the attention of T5For.* T5 or BART with their decoders"):
            labelling(name, "t5", TOKEN_CLASSIFICATION)


def test_leading_tokens_of_a_text_that_is_written_are_not_edited_alone(tuned, spec, backbone):
    method = spec("peft=loreft", "peft.tokens=3").peft
    with pytest.raises(ConfigError, match=r"Set peft\.tokens=null"):
        method.apply(backbone("llama"), MethodContext((), "CAUSAL_LM", "here", "vocabulary"))


def test_the_layer_of_the_vocabulary_is_adapted_only_where_it_has_weights_of_its_own(spec, backbone):
    method = spec("peft=lora", "peft.target=[lm_head,q_proj]").peft
    context = MethodContext((), "CAUSAL_LM", "here", "vocabulary")
    with pytest.raises(ConfigError, match="'lm_head' shares its weights with the input embeddings"):
        method.apply(backbone("llama"), context)
    assert method.apply(backbone("qwen3"), context).base_model.model.lm_head.lora_A
