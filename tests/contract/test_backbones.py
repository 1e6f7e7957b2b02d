"""What every pretrained encoder of ``conf/model/`` must hold, on a tiny random model of its family.

The tiny models of the hub lie in a cache of it, under the repository's own name and without a network; those of the
package index, whose files have digests, in folders. Options of the same family are one to most tests.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import transformers
import yaml
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from peftlab.assembly import build_tuner
from peftlab.catalogue import model_table
from peftlab.composing.compose import conf_dir
from peftlab.config import build, resolve, validate
from peftlab.data.static_shapes import StaticShapes
from peftlab.errors import ConfigError
from peftlab.methods.head import head_of, is_of_head
from peftlab.methods.method import MethodContext
from peftlab.methods.targets import blocks_of, target_modules
from peftlab.models.backbone import ModelSpec, fetch
from peftlab.models.positions import check_length
from peftlab.one_run import run
from peftlab.sources import FilesSource
from peftlab.speed.attention import attention_kernels
from peftlab.speed.border import NoBorderError, find_border
from peftlab.speed.dropout import CheapDropout, cheapen
from peftlab.speed.frozen_weights import store_in_bf16
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.words import NO_WORD, Sentence, encode_words
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor

WORDS = ["Marie", "Curie", "moved", "from", "Paris", "to", "New", "York", ",", "said", "Unesco", "."]
TEXT = [" ".join(WORDS), "Ada Lovelace of the Royal Society flew over Rome yesterday", "北京大学在中国的首都。"]
LETTERS = sorted(set("".join(TEXT) + "".join(TEXT).lower()) - {" "})


# --- tokenizers, one of each kind ------------------------------------------------------------------------------------


def word_pieces(lowercase: bool) -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *LETTERS, *(f"##{letter}" for letter in LETTERS), "moved", "New", "new", "mov", "##ed"]
    tokenizer = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return transformers.BertTokenizerFast(tokenizer_object=tokenizer, do_lower_case=lowercase)


def byte_level() -> Tokenizer:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def roberta_bytes() -> PreTrainedTokenizerFast:
    model = json.loads(byte_level().to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return transformers.RobertaTokenizer(vocab=model["vocab"], merges=merges)


def plain_bytes() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level(), unk_token="<unk>", pad_token="<pad>", cls_token="<s>", sep_token="</s>"
    )


def plain_unigrams() -> PreTrainedTokenizerFast:
    """Return one that takes its file as it is, like the one that the conversion of E5 writes."""
    tokenizer = unigrams(transformers.XLMRobertaTokenizer, "<s>", "<pad>", "</s>", "<unk>")
    special = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, model_input_names=inputs, **special)


def mpnet_pieces() -> PreTrainedTokenizerFast:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "[UNK]"]
    pieces = [*special, *LETTERS, *(f"##{letter}" for letter in LETTERS), "moved", "new", "mov", "##ed"]
    return transformers.MPNetTokenizer(vocab={piece: n for n, piece in enumerate(pieces)})


def unigrams(kind: type, *special: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of sentencepiece's kind: ▁ stands for the space before a word."""
    pieces = ["▁", *LETTERS, "▁mo", "ved", "▁New", "▁new", "ork"]
    scores = [-float(n) for n in range(1, len(pieces) + 1)]
    return kind(vocab=[*((token, 0.0) for token in special), *zip(pieces, scores, strict=True)])


# --- families --------------------------------------------------------------------------------------------------------

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
BERT_ATTENTION = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
BERT_MLP = ["intermediate.dense", "output.dense"]


class Family(NamedTuple):
    pretrained: type
    """The class of what lies on the hub: the encoder with the head that it was pretrained with."""
    tokenizer: Callable[[], PreTrainedTokenizerFast]
    settings: dict[str, object]
    blocks: list[str]
    attention: list[str] = BERT_ATTENTION
    mlp: list[str] = BERT_MLP
    head: tuple[str, ...] = ("classifier",)
    text_head: tuple[str, ...] = ("classifier",)
    """Of whole texts."""
    attention_dropout: str | None = "attention.self.dropout"
    positions: int | None = 80
    sdpa: bool = True
    checkpointing: bool = True


def layers(prefix: str) -> list[str]:
    return [f"{prefix}.{n}" for n in range(2)]


BERT = Family(
    transformers.BertForPreTraining,
    functools.partial(word_pieces, False),
    {**SMALL, "max_position_embeddings": 80},
    layers("bert.encoder.layer"),
    text_head=("bert.pooler", "classifier"),
)
UNCASED = BERT._replace(tokenizer=functools.partial(word_pieces, True))
FAMILIES = {
    "bert_base_cased": BERT,
    "bert_base_uncased": UNCASED,
    "minilm": UNCASED._replace(pretrained=transformers.BertModel),
    "e5_small_multilingual": BERT._replace(pretrained=transformers.BertModel, tokenizer=plain_unigrams),
    "bert_base_chinese": BERT,
    "chinese_roberta_wwm": BERT._replace(pretrained=transformers.BertForMaskedLM),
    "roberta_base": Family(
        transformers.RobertaForMaskedLM,
        roberta_bytes,
        {**SMALL, "max_position_embeddings": 82, "type_vocab_size": 1, "pad_token_id": 1},
        layers("roberta.encoder.layer"),
    ),
    "xlm_roberta_base": Family(
        transformers.XLMRobertaForMaskedLM,
        functools.partial(unigrams, transformers.XLMRobertaTokenizer, "<s>", "<pad>", "</s>", "<unk>"),
        {**SMALL, "max_position_embeddings": 82, "type_vocab_size": 1, "pad_token_id": 1},
        layers("roberta.encoder.layer"),
    ),
    "deberta_v3_base": Family(
        transformers.DebertaV2ForMaskedLM,
        functools.partial(unigrams, transformers.DebertaV2Tokenizer, "[PAD]", "[CLS]", "[SEP]", "[UNK]"),
        {
            **SMALL,
            "type_vocab_size": 0,
            "relative_attention": True,
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "max_position_embeddings": 80,
        },
        layers("deberta.encoder.layer"),
        attention=[
            "attention.self.query_proj",
            "attention.self.key_proj",
            "attention.self.value_proj",
            "attention.output.dense",
        ],
        text_head=("pooler", "classifier"),
        positions=None,
        sdpa=False,
    ),
    "distilbert": Family(
        transformers.DistilBertForMaskedLM,
        functools.partial(word_pieces, False),
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48, "max_position_embeddings": 80},
        layers("distilbert.transformer.layer"),
        attention=["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"],
        mlp=["ffn.lin1", "ffn.lin2"],
        text_head=("pre_classifier", "classifier"),
        attention_dropout="attention.dropout",
    ),
    "electra_base": Family(
        transformers.ElectraForPreTraining,
        functools.partial(word_pieces, True),
        {**SMALL, "embedding_size": 16, "max_position_embeddings": 80},
        layers("electra.encoder.layer"),
    ),
    "albert": Family(
        transformers.AlbertForPreTraining,
        functools.partial(unigrams, transformers.AlbertTokenizer, "<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"),
        {**SMALL, "embedding_size": 16, "max_position_embeddings": 80},
        ["albert.encoder.albert_layer_groups.0.albert_layers.0"],
        attention=["attention.query", "attention.key", "attention.value", "attention.dense"],
        mlp=["ffn", "ffn_output"],
        text_head=("albert.pooler", "classifier"),
        attention_dropout="attention.attention_dropout",
        checkpointing=False,
    ),
    "modernbert_base": Family(
        transformers.ModernBertForMaskedLM,
        plain_bytes,
        {
            **SMALL,
            "pad_token_id": 1,
            "cls_token_id": 0,
            "sep_token_id": 2,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "local_attention": 8,
            "global_attn_every_n_layers": 2,
        },
        layers("model.layers"),
        attention=["attn.Wqkv", "attn.Wo"],
        mlp=["mlp.Wi", "mlp.Wo"],
        head=("head", "classifier"),
        text_head=("head", "classifier"),
        attention_dropout="attn.out_drop",
        positions=None,
    ),
    "mpnet_base": Family(
        transformers.MPNetForMaskedLM,
        mpnet_pieces,
        {**SMALL, "max_position_embeddings": 82, "pad_token_id": 1},
        layers("mpnet.encoder.layer"),
        attention=["attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"],
        attention_dropout="attention.attn.dropout",
        sdpa=False,
        checkpointing=False,
    ),
}
FAMILIES |= {
    larger: FAMILIES[smaller]
    for larger, smaller in {
        "bert_large_cased": "bert_base_cased",
        "bert_large_uncased": "bert_base_uncased",
        "roberta_large": "roberta_base",
        "deberta_v3_large": "deberta_v3_base",
        "xlm_roberta_large": "xlm_roberta_base",
        "modernbert_large": "modernbert_base",
        "ettin_150m": "modernbert_base",
        "ettin_400m": "modernbert_base",
        "multilingual_e5_base": "xlm_roberta_base",
        "multilingual_e5_large": "xlm_roberta_base",
    }.items()
}
"""By option; the very object of another for what is its family in another size."""
ENCODERS = [row.name for row in model_table.rows() if row.kind == "encoder"]
HUB = sorted(row.name for row in model_table.rows(ENCODERS) if row.repository)
DISTINCT = list({id(family): option for option, family in reversed(FAMILIES.items())}.values())[::-1]
"""One option of each family."""
ARCHITECTURES = sorted({FAMILIES[option].blocks[0]: option for option in sorted(DISTINCT, reverse=True)}.values())
"""One option of each: what the architecture alone decides is tested once."""


def test_every_option_has_its_family():
    assert sorted(FAMILIES) == sorted(ENCODERS)


# --- a cache of the hub ----------------------------------------------------------------------------------------------


def settings_of(option: str) -> dict:
    return yaml.safe_load((conf_dir() / "model" / f"{option}.yaml").read_text(encoding="utf-8"))


def commit_of(option: str) -> str:
    return hashlib.sha1(option.encode()).hexdigest()


def save_tiny(option: str, folder: Path, pickled: bool) -> None:
    family = FAMILIES[option]
    tokenizer = family.tokenizer()
    config = family.pretrained.config_class(vocab_size=len(tokenizer), **family.settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = family.pretrained(config)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    if pickled:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Callable[[str], Path]:
    """Return a maker of folders with the tiny model of an option, its weights as its repository may have them."""
    root = tmp_path_factory.mktemp("families")

    @functools.cache
    def make(option: str) -> Path:
        save_tiny(option, root / option, pickled=settings_of(option)["source"].get("allow_pickle", False))
        return root / option

    return make


@pytest.fixture
def hub_cache(tmp_path, monkeypatch, saved) -> Callable[[str], Path]:
    """Return a function that puts an option's tiny model into a cache of the hub, which is offline."""
    root = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(root))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def fill(option: str) -> Path:
        repo = root / f"models--{settings_of(option)['source']['repo'].replace('/', '--')}"
        snapshot = repo / "snapshots" / commit_of(option)
        for folder in (snapshot, repo / "blobs", repo / "refs"):
            folder.mkdir(parents=True)
        (repo / "refs" / "main").write_text(commit_of(option))
        for file in saved(option).iterdir():
            content = file.read_bytes()
            blob = repo / "blobs" / hashlib.sha256(content).hexdigest()
            blob.write_bytes(content)
            (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
        return snapshot

    return fill


@pytest.fixture
def spec_of(compose_config, hub_cache, saved):
    """Return a maker of the validated configuration of an option, with its tiny model."""
    filled = set()

    def make(option, *overrides):
        model = [f"model={option}"] if option in HUB else ["model=folder", f"model.path={saved(option)}"]
        if option in HUB and option not in filled:
            hub_cache(option)
            filled.add(option)
        return validate(resolve(compose_config(*model, "trainer=cpu", *overrides)))

    return make


def stored_of(option: str, folder: Path, prefix: str) -> dict[str, torch.Tensor]:
    """Return what the tiny model of an option has stored, by the names that it has under a head."""
    pretrained = FAMILIES[option].pretrained
    stored = pretrained.from_pretrained(folder).state_dict()
    is_bare = "For" not in pretrained.__name__
    return {f"{prefix}.{name}" if is_bare else name: tensor for name, tensor in stored.items()}


NO_DROPOUT = ["model.dropout=0.0", "model.attention_dropout=0.0", "model.head_dropout=0.0"]


@pytest.fixture
def task(spec):
    task = spec("task=ner").task
    task.learn_labels({"train": []}, ["LOC", "PER"])
    return task


TAGS = {"Marie": "B-PER", "Curie": "I-PER", "Paris": "B-LOC", "New": "B-LOC", "York": "I-LOC", "Rome": "B-LOC"}
SENTENCES = [
    Sentence(f"train:{n}", text.split(), [TAGS.get(word, "O") for word in text.split()], "train.txt", [1] * 12)
    for n, text in enumerate(TEXT[:2])
]


def batch_of(task, tokenizer):
    encoded = task.encode(SENTENCES, Processor("tokenizer", tokenizer), Limits(80, "split"))
    return task.collate(SENTENCES, encoded, range(len(SENTENCES)))


# --- every option ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_hubs_are_found_in_its_cache(hub_cache):
    for option in HUB:
        hub_cache(option)
        node = settings_of(option)
        pretrained = fetch(ModelSpec(**build(node, "model")))
        assert pretrained.origin == f"hub:{node['source']['repo']}@{commit_of(option)}"
        assert pretrained.resolved == {"revision": commit_of(option)}


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("option", DISTINCT)
def test_it_loads(option, spec_of, saved, task):
    family = FAMILIES[option]
    pretrained = fetch(spec_of(option).model)
    model = pretrained.backbone(task)
    tokenizer = pretrained.tokenizer()
    assert head_of(model) == family.head
    stored = stored_of(option, saved(option), model.base_model_prefix)
    encoder = {name: tensor for name, tensor in model.state_dict().items() if name.split(".")[0] not in family.head}
    assert encoder
    assert all(torch.equal(tensor, stored[name]) for name, tensor in encoder.items())
    for target, ends in (
        ("all_linear", [*family.attention, *family.mlp]),
        ("attention", family.attention),
        ("mlp", family.mlp),
    ):
        expected = {f"{block}.{end}" for block in family.blocks for end in ends}
        assert set(target_modules(model, target, family.head)) == expected
    logits = model.eval()(**batch_of(task, tokenizer).inputs).logits
    assert logits.isfinite().all()


@pytest.mark.parametrize("option", DISTINCT)
def test_words_are_the_tokens_that_they_have_within_a_text(option, saved):
    tokenizer = fetch(ModelSpec(name=option, source=FilesSource(path=as_folder(option, saved)))).tokenizer()
    encoded = encode_words(SENTENCES, tokenizer, max_tokens=200, long="split").arrays
    for n, sentence in enumerate(SENTENCES):
        tokens, word = (encoded[name][encoded["rows"][n] : encoded["rows"][n + 1]] for name in ("tokens", "word"))
        assert tokens.tolist() == tokenizer(" ".join(sentence.words))["input_ids"]
        starts = [i for i, position in enumerate(word) if position != NO_WORD]
        assert [word[i] for i in starts] == list(range(len(sentence.words)))
        ends = [*starts[1:], len(tokens) - 1]
        for text, start, end in zip(sentence.words, starts, ends, strict=True):
            pieces = tokenizer.convert_ids_to_tokens(tokens[start:end].tolist())
            spelled = "".join(piece.removeprefix("##").lstrip("Ġ▁") for piece in pieces)
            assert spelled in (text, text.lower())


@pytest.mark.parametrize("option", ["bert_base_chinese", "chinese_roberta_wwm"])
def test_chinese_words_are_their_characters(option, saved):
    tokenizer = fetch(ModelSpec(name=option, source=FilesSource(path=as_folder(option, saved)))).tokenizer()
    words = ["北京", "大学", "在", "中国"]
    sentence = Sentence("train:0", words, ["O"] * 4, "train.txt", [1, 2, 3, 4])
    arrays = encode_words([sentence], tokenizer, max_tokens=20, long="split").arrays
    assert tokenizer.convert_ids_to_tokens(arrays["tokens"].tolist()) == ["[CLS]", *"北京大学在中国", "[SEP]"]
    assert arrays["word"].tolist() == [NO_WORD, 0, NO_WORD, 1, NO_WORD, 2, 3, NO_WORD, NO_WORD]


def as_folder(option: str, saved) -> Path:
    """Return a folder as `save_pretrained` writes it, whatever the repository has."""
    folder = saved(option)
    if not (folder / "model.safetensors").is_file():
        folder = folder.with_name(f"{option}-folder")
        if not folder.exists():
            save_tiny(option, folder, pickled=False)
    return folder


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize("option", DISTINCT)
def test_a_folder_gives_the_same_model(option, spec_of, saved, task):
    logits = []
    for spec in (spec_of(option).model, ModelSpec(name="own", source=FilesSource(path=as_folder(option, saved)))):
        torch.manual_seed(3)
        pretrained = fetch(spec)
        batch = batch_of(task, pretrained.tokenizer())
        logits.append(pretrained.backbone(task).eval()(**batch.inputs).logits)
    assert torch.equal(*logits)


@pytest.mark.one_in(2, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize("option", ARCHITECTURES)
def test_each_dropout_key_changes_its_modules(option, spec_of, task):
    family = FAMILIES[option]
    wishes = ["model.dropout=0.25", "model.attention_dropout=0.35", "model.head_dropout=0.45"]
    model = fetch(spec_of(option, *wishes).model).backbone(task)
    rates = {name: module.p for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    in_attention = {f"{block}.{family.attention_dropout}" for block in family.blocks}
    in_head = {name for name in rates if "." not in name}
    assert {rates[name] for name in in_attention} == {0.35}
    assert in_head
    assert {rates[name] for name in in_head} == {0.45}
    others = rates.keys() - in_attention - in_head
    assert len(others) >= len(family.blocks)
    assert {rates[name] for name in others} == {0.25}


@pytest.mark.slow
@pytest.mark.parametrize("option", ARCHITECTURES)
def test_rows_may_be_as_long_as_there_are_positions(option, spec_of, task):
    positions = FAMILIES[option].positions
    model = fetch(spec_of(option).model).backbone(task).eval()
    if positions is None:
        check_length(model, 100_000)
    else:
        check_length(model, positions)
        with pytest.raises(ConfigError, match=f"has {positions} positions"):
            check_length(model, positions + 1)
    ids = torch.full((1, positions or 100), 5)
    assert model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.isfinite().all()


@pytest.mark.one_in(2, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize("option", ARCHITECTURES)
def test_the_implementation_of_attention(option, spec_of, task):
    spec = spec_of(option, "model.attention=sdpa", *NO_DROPOUT)
    if not FAMILIES[option].sdpa:
        with pytest.raises(ConfigError, match=r"^model\.attention=sdpa: .* it knows model\.attention=eager$"):
            fetch(spec.model).backbone(task)
        return
    logits = []
    for attention in ("eager", "sdpa"):
        torch.manual_seed(0)
        pretrained = fetch(spec_of(option, f"model.attention={attention}", *NO_DROPOUT).model)
        model = pretrained.backbone(task).eval()
        assert model.config._attn_implementation == attention
        logits.append(model(**batch_of(task, pretrained.tokenizer()).inputs).logits)
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-4)


@pytest.mark.one_in(2, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize("option", ARCHITECTURES)
def test_gradient_checkpointing(option, spec_of, task):
    spec = spec_of(option, "trainer.gradient_checkpointing=true", *NO_DROPOUT)
    pretrained = fetch(spec.model)
    spec.task.learn_labels({"train": []}, ["LOC", "PER"])
    if not FAMILIES[option].checkpointing:
        with pytest.raises(ConfigError, match=r"^trainer\.gradient_checkpointing=true: "):
            build_tuner(spec, pretrained)
        return
    gradients = []
    for chosen in (spec, spec_of(option, *NO_DROPOUT)):
        chosen.task.learn_labels({"train": []}, ["LOC", "PER"])
        torch.manual_seed(0)
        tuner = build_tuner(chosen, pretrained).train()
        batch = batch_of(task, pretrained.tokenizer())
        task.loss(tuner(batch), batch).backward()
        gradients.append([p.grad for p in tuner.parameters() if p.requires_grad])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "peft"),
    [(option, "lora") for option in ARCHITECTURES]
    + [(option, peft) for option in ARCHITECTURES[:2] for peft in ("full", "head")],
)
class TestTraining:
    @pytest.fixture
    def tuned(self, option, peft, spec_of, task):
        """Return a maker of the tuned model, its method and its context, and the one batch."""
        spec = spec_of(option, f"peft={peft}", *NO_DROPOUT)
        pretrained = fetch(spec.model)

        def make(seed=0):
            torch.manual_seed(seed)
            model = pretrained.backbone(task)
            context = MethodContext(head_of(model), "TOKEN_CLS", pretrained.origin, "token")
            return spec.peft.apply(model, context), spec.peft, context

        return make, batch_of(task, pretrained.tokenizer())

    def test_a_step_lowers_the_loss_and_leaves_what_is_frozen(self, option, peft, tuned, task, tmp_path):
        make, batch = tuned
        model, method, context = make()
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.0)
        first = task.loss(model.train()(**batch.inputs), batch)
        first.backward()
        optimizer.step()
        with torch.no_grad():
            outputs = model.eval()(**batch.inputs)
        assert task.loss(outputs, batch) < first
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        assert bool(frozen) == (peft != "full")
        assert all(torch.equal(model.get_parameter(name), before[name]) for name in frozen)

        method.save(model, tmp_path / "adapter", context)
        again, _, _ = make(seed=1)
        method.load(again, tmp_path / "adapter")
        with torch.no_grad():
            assert torch.equal(again.eval()(**batch.inputs).logits, outputs.logits)

    def test_every_weight_counts_once(self, option, peft, tuned):
        make, _ = tuned
        model, method, context = make()
        family = FAMILIES[option]
        plain = {name: tuple(p.shape) for name, p in make()[0].named_parameters() if "lora_" not in name}
        head = [
            parameter.numel()
            for name, parameter in model.named_parameters()
            if set(name.split(".")) & set(context.head) and "original_module" not in name
        ]
        expected = {"head": sum(head), "full": sum(p.numel() for p in set(model.parameters()))}
        if peft == "lora":
            shapes = [
                plain[f"base_model.model.{block}.{end}.base_layer.weight"]
                for block in family.blocks
                for end in (*family.attention, *family.mlp)
            ]
            expected["lora"] = sum(head) + sum(method.options["r"] * sum(shape) for shape in shapes)
        assert method.count(model)["trainable_parameters"] == expected[peft]


@pytest.fixture
def classification(spec):
    task = spec("task=classification").task
    task.learn_labels({"train": []}, ["neg", "neutral", "pos"])
    return task


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("option", DISTINCT)
def test_a_head_for_whole_texts(option, spec_of, saved, classification):
    """All that comes after the last layer is the head: some architectures keep a part of it in the encoder."""
    family = FAMILIES[option]
    pretrained = fetch(spec_of(option).model)
    model = pretrained.backbone(classification)
    assert head_of(model) == family.text_head
    stored = stored_of(option, saved(option), model.base_model_prefix)
    encoder = {name: tensor for name, tensor in model.state_dict().items() if not is_of_head(name, family.text_head)}
    assert encoder
    assert all(torch.equal(tensor, stored[name]) for name, tensor in encoder.items())
    everything = {f"{block}.{end}" for block in family.blocks for end in (*family.attention, *family.mlp)}
    assert set(target_modules(model, "all_linear", family.text_head)) == everything


@pytest.mark.one_in(4, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "peft", "pairs"),
    [(option, ("lora", "full", "head")[n % 3], bool(n % 2)) for n, option in enumerate(ARCHITECTURES)],
)
def test_whole_texts_are_learnt(option, peft, pairs, spec_of, classification, tmp_path):
    spec = spec_of(option, f"peft={peft}", *NO_DROPOUT)
    pretrained = fetch(spec.model)
    labels = ["neg", "pos", "neutral"]
    examples = [Text(f"train:{n}", text, labels[n], TEXT[0] if pairs else None) for n, text in enumerate(TEXT)]
    encoded = classification.encode(examples, pretrained.processor("tokenizer"), Limits(80, "truncate"))
    batch = classification.collate(examples, encoded, range(len(examples)))

    def make(seed):
        torch.manual_seed(seed)
        model = pretrained.backbone(classification)
        context = MethodContext(head_of(model), classification.head.task_type, pretrained.origin)
        return spec.peft.apply(model, context), context

    model, context = make(0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    lr = {"full": 1e-3, "lora": 3e-3, "head": 1e-2}[peft]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=0.0)
    losses = []
    for _ in range(30):  # of a random encoder that is frozen a head learns little
        loss = classification.loss(model.train()(**batch.inputs), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    used = {name for name, _ in model.named_parameters() if "original_module" not in name}
    assert {name for name in used if is_of_head(name, context.head)} <= trained
    assert all(torch.equal(model.get_parameter(name), before[name]) for name in before.keys() - trained)
    with torch.no_grad():
        logits = model.eval()(**batch.inputs).logits
        spec.peft.save(model, tmp_path / "adapter", context)
        again, _ = make(1)
        spec.peft.load(again, tmp_path / "adapter")
        assert torch.equal(again.eval()(**batch.inputs).logits, logits)
        merged = spec.peft.merge(again)
        torch.testing.assert_close(merged(**batch.inputs).logits, logits, atol=1e-5, rtol=1e-4)


@pytest.mark.one_in(2, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize("option", ARCHITECTURES)
def test_frozen_weights_in_bf16_give_the_same_bits_under_autocast(option, spec_of, task):
    spec = spec_of(option, "peft=lora", *NO_DROPOUT)
    pretrained = fetch(spec.model)
    spec.task.learn_labels({"train": []}, ["LOC", "PER"])
    tuner = build_tuner(spec, pretrained).eval()
    rounded = copy.deepcopy(tuner)
    assert store_in_bf16(rounded.model) > 0
    batch = batch_of(task, pretrained.tokenizer())
    results = []
    for each in (tuner, rounded):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = each(batch)
        task.loss(outputs, batch).backward()
        results.append([outputs.logits, *(p.grad for p in each.parameters() if p.requires_grad)])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


class Waits(TorchDispatchMode):
    """Counts what reads a number from a tensor, which the host waits for where that is on a device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
@pytest.mark.parametrize("option", ARCHITECTURES)
def test_static_shapes_change_nothing_and_a_pass_waits_for_nothing(option, spec_of, task):
    """Some architectures count positions from the first token that is no padding, by its id."""
    for attention in ("eager", "auto"):
        pretrained = fetch(spec_of(option, *NO_DROPOUT, f"model.attention={attention}").model)
        model = pretrained.backbone(task, "sdpa").train()
        batch = batch_of(task, pretrained.tokenizer())
        rows, width = batch.shape
        filled = StaticShapes(most=64).padded(batch, size=rows + 2)
        expected = model(**batch.inputs).logits
        with attention_kernels(cudnn=False, one_for_all=True), Waits() as waits:
            outputs = model(**filled.inputs)
            filled.mean(task.losses(outputs, filled)).backward()
        assert waits.count == 0
        real = batch.inputs["attention_mask"].bool()
        torch.testing.assert_close(outputs.logits[:rows, :width][real], expected[real], atol=1e-5, rtol=1e-4)


@pytest.mark.one_in(2, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize("option", ARCHITECTURES)
def test_cheap_dropout_takes_the_place_of_every_dropout(option, spec_of, task):
    pretrained = fetch(spec_of(option, "model.dropout=0.3").model)
    model = pretrained.backbone(task)
    rates = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    batch = batch_of(task, pretrained.tokenizer())
    expected = model.eval()(**batch.inputs).logits
    assert cheapen(model) == len(rates)
    cheap = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert [type(module) for module in cheap] == [CheapDropout] * len(rates)
    assert [module.p for module in cheap] == rates
    assert torch.equal(model(**batch.inputs).logits, expected)
    dropped = []
    for _ in range(2):
        torch.manual_seed(0)
        dropped.append(model.train()(**batch.inputs).logits)
    assert torch.equal(*dropped)
    assert not torch.equal(dropped[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("option", ARCHITECTURES)
def test_training_can_start_above_frozen_layers(option, spec_of, task):
    """That starting there gives the same bits is part of looking for the border."""
    spec = spec_of(option, "peft=head", *NO_DROPOUT)
    pretrained = fetch(spec.model)
    spec.task.learn_labels({"train": []}, ["LOC", "PER"])
    model = build_tuner(spec, pretrained).model
    inputs = batch_of(task, pretrained.tokenizer()).inputs
    for dtype in (None, torch.bfloat16):
        border = find_border(model, inputs, dtype)
        assert border.below == [model.base_model]
        assert border.layers == border.of_layers == (1 if option == "albert" else 2)
    if option != "albert":  # whose layers share their weights
        lower, upper = blocks_of(model)
        upper.requires_grad_(True)
        assert find_border(model, inputs).below == [lower]
    dropping = build_tuner(spec_of(option, "peft=head"), pretrained).model
    for module in dropping.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    with pytest.raises(NoBorderError, match="dropout"):
        find_border(dropping, inputs)


def test_a_tokenizer_of_sentencepiece_alone(tmp_path):
    """As DeBERTa-v3's repository has it."""
    spm = pytest.importorskip("sentencepiece")
    with (tmp_path / "spm.model").open("wb") as file:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT * 20),
            model_writer=file,
            vocab_size=60,
            hard_vocab_limit=False,
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            pad_piece="[PAD]",
            bos_piece="[CLS]",
            eos_piece="[SEP]",
            unk_piece="[UNK]",
            minloglevel=3,
        )
    (tmp_path / "config.json").write_text('{"model_type": "deberta-v2"}')
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    reference = spm.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
    encoded = encode_words(SENTENCES[:1], tokenizer, max_tokens=80, long="split").arrays["tokens"].tolist()
    assert encoded == [1, *reference.encode(" ".join(WORDS)), 2]


@pytest.mark.slow
def test_a_run_keeps_the_commit_so_that_a_rerun_uses_the_same(compose_config, hub_cache, tiny_data):
    hub_cache("bert_base_cased")
    source = ["model=bert_base_cased", "data=files", f"data.path={tiny_data}", "data.max_tokens=80"]
    tiny = [*source, "trainer=cpu", "trainer.precision=32-true", "budget=smoke", "budget.max_steps=1"]
    commit = commit_of("bert_base_cased")
    record = run(compose_config(*tiny))
    config = yaml.safe_load((record.folder / "config.yaml").read_text())
    assert config["model"]["source"]["revision"] == commit
    adapter = json.loads((record.folder / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == f"hub:google-bert/bert-base-cased@{commit}"
    again = run(compose_config(*tiny, f"model.source.revision={commit}", "existing=skip"))
    assert again.folder == record.folder
