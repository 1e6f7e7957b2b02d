"""From a file of questions and answers to a model that answers: what a user does with a run that writes texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

import peftlab as python_api
from peftlab.errors import ConfigError, DataError

pytestmark = pytest.mark.slow

PLACES = ("rome", "paris", "wien", "köln")
ROWS = [(f"what is the name of river {n} in {place} ?", place[::-1]) for n in range(10) for place in PLACES]


@pytest.fixture
def run(command, tiny_run, language_model):
    """Train a tiny model until it writes something, by the command that the documents name."""

    def make(kind, task, keys, *overrides):
        Path("my.jsonl").write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in ROWS))
        data = {"causal_lm": "conversations", "seq2seq": "source_target"}[task]
        given = [f"task={task}", f"data={data}", "data.path=my.jsonl", f"model.path={language_model(kind)}"]
        small = ["task.generate.max_new_tokens=12", "optimizer.lr=3e-2", "budget.max_steps=30", "run_dir=run"]
        assert command(*tiny_run, *given, *small, *overrides).code == 0
        return python_api.load("run")

    return make


def test_a_decoder(run, peftlab, language_model):
    loaded = run("llama", "causal_lm", ("prompt", "answer"), "peft=lora")
    question = ROWS[3][0]
    (answer,) = loaded.predict([question])
    assert answer.keys() == {"text", "written", "stopped"}
    assert answer["written"]
    check_streams(loaded, question)

    # the same question in the forms of the data, and in those of every conversation
    turns = [{"role": "user", "content": question}]
    forms = [{"prompt": question}, {"messages": turns}, {"instruction": question, "input": ""}, {"prompt": 1}]
    Path("in.jsonl").write_text("".join(json.dumps({"id": n, **form}) + "\n" for n, form in enumerate(forms)))
    code, out, err = peftlab("predict", "run", "--jsonl", "in.jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, [row.get("written") for row in rows]) == (1, [answer["written"]] * 3 + [None])
    assert "in.jsonl:4: the object: 'prompt' is 1; expected a text" in rows[3]["error"]
    assert loaded.predict([turns])[0]["written"] == answer["written"]

    # on the terminal
    assert peftlab("predict", "run", question, "--stream") == (0, answer["written"] + "\n", "")
    code, out, _ = peftlab("predict", "run", question, "--generate", "max_new_tokens=1")
    assert (code, out.splitlines()[0]) == (0, question)
    assert "it goes on" in out
    code, out, err = peftlab("predict", "run", question, "--stream", "--generate", "max_new_tokens=1")
    assert (code, "it goes on" in err, "it goes on" in out) == (0, True, False)
    for wrong, message in (("max_new_token=1", "Did you mean 'max_new_tokens'"), ("beams", "expected KEY=VALUE")):
        code, _, err = peftlab("predict", "run", question, "--generate", wrong)
        assert (code, message in err) == (2, True)

    # a folder of transformers alone, and the adapter on the plain model
    exported = loaded.export("plain")
    assert exported.largest_difference < 1e-4
    with safe_open("plain/model.safetensors", "pt") as file:
        assert "lm_head.weight" not in set(file.keys())  # tied to the embeddings, as before
    assert json.loads(Path("plain/config.json").read_text())["use_cache"] is True
    writes = pipeline("text-generation", "plain")
    assert writes(turns)[0]["generated_text"][-1]["content"] == answer["written"]
    card = ModelCard.load("plain/README.md")
    assert card.data.pipeline_tag == "text-generation"
    assert {one.metric_type for one in card.data.eval_results} >= {"perplexity", "exact_match", "chrf", "bleu", "rouge"}
    assert example_of(card).replace('"..."', repr(question)) != example_of(card)
    assert written_by(example_of(card).replace('"..."', repr(question)), "plain") == answer["written"]
    base = AutoModelForCausalLM.from_pretrained(language_model("llama"))
    adapted = PeftModel.from_pretrained(base, "run/adapter").eval()
    inputs = AutoTokenizer.from_pretrained("plain")(question, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(adapted(**inputs).logits, loaded.model(**inputs).logits)
    check_is_for_llama_cpp(Path("plain"), "LlamaForCausalLM", torch.float32)


@pytest.mark.exhaustive
def test_an_encoder_decoder(run, peftlab):
    loaded = run("t5", "seq2seq", ("source", "target"), "peft=full", "task.prefix='answer: '")
    (answer,) = loaded.predict([{"source": ROWS[0][0]}])
    assert answer["written"]
    check_streams(loaded, ROWS[0][0])
    assert loaded.export("plain").largest_difference < 1e-4
    code = example_of(ModelCard.load("plain/README.md"))
    assert "'answer: ...'" in code
    assert written_by(code.replace("...", ROWS[0][0]), "plain") == answer["written"]
    assert AutoModelForSeq2SeqLM.from_pretrained("plain").generation_config.max_new_tokens == 12
    code, _, err = peftlab("predict", "run", "--chat")
    assert (code, "has no conversations" in err) == (2, True)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["qwen3", "gpt2", "gemma3"])
def test_other_decoders_are_exported_in_half_precision(run, kind):
    loaded = run(kind, "causal_lm", ("prompt", "answer"), "peft=full", "task.template=plain")
    (answer,) = loaded.predict([ROWS[1][0]])
    loaded.export("whole")
    turns = [{"role": "user", "content": ROWS[1][0]}]
    assert pipeline("text-generation", "whole")(turns)[0]["generated_text"][-1]["content"] == answer["written"]
    assert loaded.export("half", dtype="bf16").largest_difference > 0
    model = AutoModelForCausalLM.from_pretrained("half")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    check_is_for_llama_cpp(Path("half"), type(model).__name__, torch.bfloat16)


def test_what_writes_no_text_says_so(finished):
    loaded = python_api.load(finished.folder)
    with pytest.raises(ConfigError, match="task=ner writes no text that could be streamed"):
        next(loaded.stream("Paris"))
    with pytest.raises(ConfigError, match="task=ner generates no text: it has no num_beams to set"):
        loaded.predict(["Paris"], num_beams=2)
    with pytest.raises(DataError, match="expected a text, a list of words or of messages"):
        next(loaded.stream(3))


def check_streams(loaded, question) -> None:
    """A streamed text is the predicted one, sampled and searched for, too; asking changes nothing of the run."""
    for options in ({}, {"do_sample": True, "seed": 3}, {"num_beams": 2}, {"max_new_tokens": 3}):
        (answer,) = loaded.predict([question], **options)
        pieces: list[str] = []
        stopped = _collected(loaded.stream(question, **options), pieces)
        assert ("".join(pieces), stopped) == (answer["written"], answer["stopped"]), options
    assert loaded.parts.task.generate.max_new_tokens == 12


def _collected(pieces, into: list[str]) -> bool:
    """Collect the pieces of a text, and return whether the model ended it."""
    while True:
        try:
            into.append(next(pieces))
        except StopIteration as end:
            return end.value


def example_of(card) -> str:
    """Return the code on a card."""
    return card.text.split("```python\n")[1].split("```")[0]


def written_by(code, folder) -> str:
    names: dict = {}
    exec(code.replace('"."', repr(folder)), names)
    return names["text"]


def check_is_for_llama_cpp(folder, architecture, dtype) -> None:
    """Its converter finds the architecture, the tokenizer with its template, and every tensor by its name."""
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == [architecture]
    assert "quantization_config" not in config
    assert (folder / "tokenizer.json").is_file()
    assert "tokenizer_class" in json.loads((folder / "tokenizer_config.json").read_text())
    assert AutoTokenizer.from_pretrained(folder).chat_template
    assert [file.name for file in folder.glob("*.safetensors")] == ["model.safetensors"]  # no adapter beside it
    with safe_open(folder / "model.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    gguf = pytest.importorskip("gguf")
    kind = config["model_type"].split("_")[0]
    (known,) = (key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == kind)
    names = gguf.get_tensor_name_map(known, config.get("num_hidden_layers", config.get("n_layer")))
    assert [name for name in tensors if names.get_name(name, (".weight", ".bias")) is None] == []
