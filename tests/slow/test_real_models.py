"""The pretrained models that are assembled from wheels or converted: real ones, from the package index."""

from __future__ import annotations

import os

import pytest
import torch
import yaml
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from peftlab.composing.compose import conf_dir
from peftlab.config import build
from peftlab.models import backbone

pytestmark = pytest.mark.slow

CACHE = os.environ.get("PEFTLAB_CACHE")  # read before any test gets one of its own: what is fetched is kept


@pytest.fixture(autouse=True)
def _shared_cache(monkeypatch) -> None:
    if CACHE is None:
        monkeypatch.delenv("PEFTLAB_CACHE")
    else:
        monkeypatch.setenv("PEFTLAB_CACHE", CACHE)


def fetched(option: str) -> backbone.Pretrained:
    node = yaml.safe_load((conf_dir() / "model" / f"{option}.yaml").read_text(encoding="utf-8"))
    return backbone.fetch(backbone.ModelSpec(**build(node, "model")))


def cosines(option: str, texts: list[str], others: list[str]) -> torch.Tensor:
    """Return the cosine of every mean-pooled text with every other one."""
    pretrained = fetched(option)
    tokenizer = pretrained.tokenizer()
    model = AutoModel.from_pretrained(pretrained.folder).eval()

    def pooled(each: list[str]) -> torch.Tensor:
        inputs = tokenizer(each, padding=True, return_tensors="pt")
        mask = inputs["attention_mask"][..., None]
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state
        return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)

    return pooled(texts) @ pooled(others).T


@pytest.mark.exhaustive
def test_sentences_are_nearest_to_their_translations():
    english = ["The weather is nice today.", "The central bank raised interest rates.", "She bought a bicycle."]
    chinese = ["今天天气很好。", "中央银行提高了利率。", "她买了一辆自行车。"]
    found = cosines("e5_small_multilingual", [f"query: {text}" for text in english], [f"query: {t}" for t in chinese])
    assert found.argmax(dim=1).tolist() == [0, 1, 2]
    assert found.diagonal().min() > found[~torch.eye(3, dtype=torch.bool)].max() + 0.04


def test_paraphrases_are_near_and_other_sentences_are_not():
    texts = ["A man is playing a guitar.", "The stock market fell sharply today."]
    others = ["Someone plays a guitar.", "Shares dropped a lot on Tuesday."]
    found = cosines("mpnet_base", texts, others)
    assert found.diagonal().tolist() == pytest.approx([0.856, 0.627], abs=0.002)
    assert max(found[0, 1], found[1, 0]) < 0


def test_smollm2_knows_the_capital_of_france():
    pretrained = fetched("smollm2_135m")
    tokenizer, model = pretrained.tokenizer(), AutoModelForCausalLM.from_pretrained(pretrained.folder).eval()
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ids = model.generate(**inputs, max_new_tokens=20, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert tokenizer.decode(ids) == "The capital of France is Paris.<|im_end|>"


def test_smollm2_divides_texts_as_it_was_trained_to():
    tokenizer = fetched("smollm2_135m").tokenizer()
    assert tokenizer.tokenize("In  2024") == ["In", "ĠĠ", "2", "0", "2", "4"]
    assert tokenizer("<|im_start|>user\n")["input_ids"] == [1, 4093, 198]
    for text in ("北京大学在中国的首都。", "naïve café 😀 👩‍👩‍👧", "def f(x):\n\treturn x ** 2  # ½", "don't   1.5"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_titles():
    pretrained = fetched("t5_small_titles")
    tokenizer, model = pretrained.tokenizer(), AutoModelForSeq2SeqLM.from_pretrained(pretrained.folder).eval()
    step = (
        "summarize agent step: intent: fix failing login test. actions: edited auth.py, ran pytest; the token check "
        "compared expired tokens wrongly. files: auth.py test_auth.py"
    )
    ids = model.generate(**tokenizer(step, return_tensors="pt"), max_new_tokens=24, do_sample=False)
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == "Fix authentication failing test"
