"""What every pretrained decoder and encoder-decoder of ``conf/model/`` must hold, on a tiny one of its family."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file
from tests.tiny_models import DECODERS, ENCODER_DECODERS

from peftlab.catalogue import model_table
from peftlab.errors import ConfigError, SourceError
from peftlab.models.backbone import ModelSpec, Pretrained, fetch
from peftlab.models.positions import positions
from peftlab.seams.transformers import kind_of
from peftlab.sources import FilesSource
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.heads import model_class

FAMILIES = {
    "llama": ["smollm2_135m", "smollm2_360m", "smollm2_1_7b", "llama32_1b", "llama32_3b"],
    "qwen3": ["qwen3_0_6b", "qwen3_1_7b", "qwen3_4b", "qwen3_8b"],
    "gemma3": ["gemma3_270m", "gemma3_1b"],
    "gemma3_of_pictures": ["gemma3_4b"],
    "gpt2": [],
    "t5": ["flan_t5_small", "flan_t5_base", "flan_t5_large", "t5_small_titles"],
    "mt5": ["mt5_small"],
    "bart": ["bart_base"],
}
"""The options of each family."""
POSITIONS = {"t5": None, "mt5": None}
"""The tokens of a row, where they are not the 256 of the tiny models."""


@pytest.fixture
def folder(language_model, tmp_path) -> Callable[[str], Path]:
    """Return a maker of the folder of a family's tiny model."""

    def make(family: str) -> Path:
        if family in (*DECODERS, *ENCODER_DECODERS):
            return language_model(family)
        base, kind = ("t5", "MT5ForConditionalGeneration") if family == "mt5" else ("gemma3", None)
        shutil.copytree(language_model(base), tmp_path / family)
        config = transformers.AutoConfig.from_pretrained(language_model(base))
        if kind:
            settings = {**config.to_dict(), "tie_word_embeddings": False}
            model = getattr(transformers, kind)(transformers.MT5Config(**settings))
        else:
            sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
            vision = {**sizes, "image_size": 28, "patch_size": 14}
            both = transformers.Gemma3Config(text_config=config.to_dict(), vision_config=vision, mm_tokens_per_image=4)
            model = transformers.Gemma3ForConditionalGeneration(both)
        model.save_pretrained(tmp_path / family)
        return tmp_path / family

    return make


def in_folder(path: Path, task=None) -> Pretrained:
    return fetch(ModelSpec(name="own", source=FilesSource(path=path)), task)


@pytest.fixture
def writing(spec):
    """Return a function that returns the task that a family's pretrained head is for."""

    def of(path: Path):
        kind = kind_of(transformers.AutoConfig.from_pretrained(path))
        return spec(f"task={'causal_lm' if kind == 'decoder' else 'seq2seq'}").task

    return of


def test_every_option_has_its_family():
    options = sorted(option for family in FAMILIES.values() for option in family)
    assert options == sorted(row.name for row in model_table.rows() if row.kind in ("decoder", "encoder-decoder"))


@pytest.mark.slow
def test_options_are_of_the_kind_that_they_say(folder):
    kinds = {row.name: row.kind for row in model_table.rows()}
    for family, options in FAMILIES.items():
        config = transformers.AutoConfig.from_pretrained(folder(family))
        assert {kinds[option] for option in options} <= {kind_of(config)}, family


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("family", FAMILIES)
def test_the_pretrained_head_is_taken_and_nothing_is_new(family, folder, writing, tmp_path):
    """Tied to the embeddings or not; the settings of generation are those of the folder.

    Of a model of words and pictures, what is of words alone is loaded, and saved as a model of its own.
    """
    path = folder(family)
    task = writing(path)
    loaded = in_folder(path, task).load(task)
    whole = model_class(task.head).from_pretrained(path)
    assert [*loaded.context.head, *loaded.context.fresh, *loaded.notes] == []
    state = whole.state_dict()
    if family == "gemma3_of_pictures":
        words = {n.replace("language_model.", ""): x for n, x in state.items() if "language" in n or "lm_head" in n}
        assert 0 < len(words) < len(state)
        state = words
        loaded.model.save_pretrained(tmp_path / "words")
        whole = model_class(task.head).from_pretrained(tmp_path / "words")
        assert whole.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in whole.state_dict().items())
    assert type(loaded.model) is type(whole)
    assert loaded.model.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.model.state_dict().items())
    assert loaded.model.generation_config.eos_token_id == whole.generation_config.eos_token_id
    assert positions(loaded.model) == POSITIONS.get(family, 256)


@pytest.mark.one_in(3, "slow")
@pytest.mark.parametrize("family", FAMILIES)
def test_fused_attention_gives_the_same(family, folder, writing):
    path = folder(family)
    task = writing(path)
    ids = torch.arange(24).view(2, 12) + 6
    more = {"labels": ids} if task.head.of == "encoder-decoder" else {}
    logits = []
    for attention in ("eager", "sdpa"):
        model = in_folder(path, task).load(task, attention).model.eval()
        with torch.no_grad():
            logits.append(model(input_ids=ids, attention_mask=torch.ones_like(ids), **more).logits)
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_what_is_of_words_in_a_model_of_words_and_pictures(folder, spec, tmp_path):
    """It computes the same, as transformers has named its tensors at any time; all that is trained has a gradient."""
    path = folder("gemma3_of_pictures")
    task = spec("task=causal_lm").task
    whole = model_class(task.head).from_pretrained(path).eval()
    ids = torch.arange(24).view(2, 12) + 6
    with torch.no_grad():
        expected = whole(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    new = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    old = {re.sub(r"^model\.(?=vision|multi)", "", name): tensor for name, tensor in new.items()}
    old = {re.sub(r"^model\.language_model", "language_model.model", name): tensor for name, tensor in old.items()}
    old = {re.sub(r"^lm_head", "language_model.lm_head", name): tensor for name, tensor in old.items()}
    for number, state in enumerate((new, old)):
        shutil.copytree(path, renamed := tmp_path / str(number))
        save_file(state, renamed / "model.safetensors")
        model = in_folder(renamed, task).load(task).model.eval()
        with torch.no_grad():
            torch.testing.assert_close(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, expected)
    for method in ("lora", "prefix_tuning", "prompt_tuning", "ln_tuning"):
        pretrained = in_folder(path, task)
        model = spec(f"peft={method}", "task=causal_lm", "task.packing=off").peft.apply(*pretrained.load(task)[:2])
        model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum().backward()
        assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None], method
    labels = spec("task=classification").task
    labels.learn_labels({"train": []}, ["no", "yes"])
    assert type(in_folder(path, labels).backbone(labels)).__name__ == "Gemma3TextForSequenceClassification"
    norm = "language_model.model.norm.weight"
    save_file({**old, norm: old[norm].int()}, tmp_path / "1" / "model.safetensors")
    with pytest.raises(SourceError, match=r"model\.norm\.weight is of the type I32, which is not converted"):
        in_folder(tmp_path / "1", task).load(task)


def test_a_head_that_is_not_there(language_model, spec, tmp_path):
    shutil.copytree(language_model("qwen3"), tmp_path / "headless")
    transformers.Qwen3Model.from_pretrained(language_model("qwen3")).save_pretrained(tmp_path / "headless")
    task = spec("task=causal_lm").task
    with pytest.raises(SourceError, match=r"1 tensors of Qwen3ForCausalLM are not in the weights, first lm_head"):
        in_folder(tmp_path / "headless", task).load(task)


def test_an_encoder_continues_nothing(tiny_model, spec):
    task = spec("task=causal_lm").task
    with pytest.raises(ConfigError, match=r"^task=causal_lm is for decoders, and a bert is an encoder"):
        in_folder(tiny_model, task).load(task)


@pytest.mark.slow
def test_questions_need_one_encoder(language_model, spec):
    task = spec("task=qa").task
    with pytest.raises(ConfigError, match="T5ForQuestionAnswering has below its head encoder and decoder"):
        in_folder(language_model("t5"), task).load(task)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "t5", "bart"])
def test_a_new_head_reads_the_end_of_a_text_whatever_the_padding(family, language_model, spec, tmp_path):
    """With virtual tokens too. A decoder without a token for padding gets the one that ends a text."""
    folder = Path(shutil.copytree(language_model(family), tmp_path / family))
    if family in DECODERS:
        for file, key in (("config.json", "pad_token_id"), ("tokenizer_config.json", "pad_token")):
            settings = json.loads((folder / file).read_text())
            (folder / file).write_text(json.dumps({**settings, key: None}))
    task = spec("task=classification").task
    task.learn_labels({"train": []}, ["no", "yes"])
    pretrained = in_folder(folder, task)
    examples = [Text(f"x:{n}", text, "no") for n, text in enumerate(["rome", "the capital of france is paris"])]
    encoded = task.encode(examples, pretrained.processor("tokenizer"), Limits(80, "truncate"))
    seen = []
    for method in (None, "prompt_tuning", "p_tuning", "prefix_tuning", "mam"):
        torch.manual_seed(0)
        model, context, _ = pretrained.load(task)
        model = model if method is None else spec(f"peft={method}").peft.apply(model, context)
        model.eval()
        with torch.no_grad():
            both = model(**task.collate(examples, encoded, [0, 1]).inputs).logits
            alone = [model(**task.collate(examples, encoded, [n]).inputs).logits[0] for n in (0, 1)]
        torch.testing.assert_close(both, torch.stack(alone), msg=lambda text, method=method: f"{method}: {text}")
        assert not torch.allclose(*alone, atol=1e-4)
        assert not any(torch.equal(both, other) for other in seen), method
        seen.append(both)
    if family in DECODERS:
        assert pretrained.tokenizer().pad_token == pretrained.tokenizer().eos_token == "<|im_end|>"
