"""General text that a model is measured on beside its training."""

from __future__ import annotations

from types import SimpleNamespace

from transformers import AutoTokenizer

from peftlab.runs.start import Unwritten
from peftlab.tasks.causal_lm import CausalLm
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Selection
from peftlab.training.forgetting import Forgetting


def test_what_longer_texts_lose_is_told(language_model, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("peftlab.training.forgetting.log.propagate", True)
    caplog.set_level("INFO", "peftlab")
    processor = Processor("tokenizer", AutoTokenizer.from_pretrained(language_model("llama")))
    task = CausalLm(name="causal_lm", selection=Selection(metric="perplexity"))
    task.bind(processor)
    text = tmp_path / "general.txt"
    text.write_text("river " * 100, encoding="utf-8")
    whole = len(processor.tokenizer(("river " * 100).strip())["input_ids"]) + 1
    for most in (whole - 9, whole):
        record = Unwritten.start(tmp_path, run_id="", name="", command=[], overrides=[], identity={})
        spec = SimpleNamespace(limits=Limits(most, "truncate"), max_tokens=most)
        Forgetting(text, SimpleNamespace(task=task, processor=processor, spec=spec), record)
        lost = {} if most == whole else {"lost": {"truncated texts": 1, "truncated tokens": 9}}
        section = record.extensions["forgetting"]
        assert section == {"text_sha256": section["text_sha256"], "tokens": most - 1, **lost}
    lines = {text for text in caplog.messages if "general text" in text}  # some logs have two handlers by now
    assert lines == {
        f"left out of the general text (data.max_tokens={whole - 9}): 1 truncated texts, 9 truncated tokens"
    }
