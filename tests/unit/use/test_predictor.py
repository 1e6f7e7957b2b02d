"""A model that answers texts, without a run: every object has an answer or an error in its place."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import peftlab
from peftlab.data.form import Form
from peftlab.errors import ConfigError, DataError
from peftlab.generation.options import Generation
from peftlab.tasks.dpo import Dpo
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Selection
from peftlab.use.predictor import Predictor, Refused, beside


@pytest.fixture
def predictor(pretrained, processor):
    """Return a maker of predictors for a task."""

    def make(task, **options):
        options = {"max_tokens": 32, **options}
        return Predictor(model=pretrained.backbone(task), task=task, processor=processor, **options)

    return make


def test_texts_words_and_objects_are_answered(predictor, ner):
    answers = list(predictor(ner()).answers(["Paris", ["Marie", "Curie"], {"text": "Rome", "id": 3}]))
    assert [answer.keys() for answer in answers] == [
        {"text", "entities"},
        {"words", "entities"},
        {"text", "id", "entities"},
    ]
    assert (answers[0]["text"], answers[1]["words"], answers[2]["id"]) == ("Paris", ["Marie", "Curie"], 3)


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_a_bad_object_is_an_error_in_its_place_and_the_others_have_their_answers(predictor, classification, at_once):
    unread = DataError("in.jsonl:3: is no JSON")
    objects = ["good", {"text": 1, "id": 7}, unread, 3, {"text": "bad", "text_pair": 2}, "fine"]
    model = predictor(classification())
    answers = list(model.answers(objects, at_once))
    kinds = [isinstance(answer, Refused) for answer in answers]
    assert kinds == [False, True, True, True, True, False]
    assert answers[1].at("in.jsonl:2") == {"text": 1, "id": 7, "error": f"in.jsonl:2: {answers[1].reason}"}
    assert "expected `text`, a string" in str(answers[1].reason)
    assert answers[2].at("in.jsonl:3") == {"error": "in.jsonl:3: is no JSON"}
    assert str(answers[3].reason) == "is a int; expected a text, a list of words or of messages, or an object"
    alone = [answer["probability"] for answer in model.answers(["good", "fine"])]
    assert [answers[0]["probability"], answers[-1]["probability"]] == pytest.approx(alone)


def test_objects_that_do_not_go_together_are_answered_by_themselves(predictor, classification):
    objects = [{"text": "one"}, {"text": "two", "text_pair": "texts"}, {"text": "x" * 2_000_000}]
    single, pair, long = predictor(classification()).answers(objects)
    assert single.keys() == {"text", "predicted", "probability", "probabilities"}
    assert pair["predicted"] in ("neg", "pos")
    assert isinstance(long, Refused)
    assert "2,000,000 characters" in str(long.reason)


def test_the_form_of_the_data_is_asked_for(predictor, classification):
    pairs = predictor(classification(), form=Form(pair="reply", pairs=True))
    single, pair = pairs.answers([{"text": "a"}, {"text": "a", "reply": "b"}])
    assert "takes pairs of texts" in str(single.reason)
    assert "predicted" in pair


def test_what_is_not_seen_is_told_once_at_the_end(predictor, classification, caplog):
    caplog.set_level("WARNING", "peftlab")
    answers = predictor(classification(), max_tokens=8, long="truncate").answers(["a " * 40, "b", "c \ud83d " * 20], 1)
    assert next(answers)["truncated"] is True
    assert caplog.messages == []
    list(answers)
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "not seen of the input (data.max_tokens=8)",
        "the texts have odd characters",
    ]


def test_keys_that_an_answer_has_too_are_kept_beside_it():
    assert beside({"a": 1, "given_a": 2, "b": 3}, {"a": 4}) == {"given_given_a": 1, "given_a": 2, "b": 3, "a": 4}


@pytest.fixture
def writer(language_model):
    """Return a predictor of a decoder that compares answers and writes them, and the reference models it has loaded."""
    load = partial(AutoModelForCausalLM.from_pretrained, language_model("llama"))
    loaded = []

    def initial():
        loaded.append(load())
        return loaded[-1]

    processor = Processor("tokenizer", AutoTokenizer.from_pretrained(language_model("llama")))
    task = Dpo(name="dpo", selection=Selection(metric="accuracy"), generate=Generation(max_new_tokens=3))
    return Predictor(load(), task, processor, initial=initial), loaded


def test_other_options_share_the_reference_model(writer):
    predictor, loaded = writer
    pair = {"text": "what flows ?", "chosen": "rome", "rejected": "paris"}
    for options in ({"max_new_tokens": 1}, {"do_sample": "true", "temperature": 0.5}, {"num_beams": 2}):
        (answer,) = predictor.generating(options).generating({"repetition_penalty": 1.1}).answers([pair])
        assert answer["rewards"] == {"chosen": 0, "rejected": 0}  # the model is its own reference
    assert len(loaded) == 1
    assert predictor.task.generate == Generation(max_new_tokens=3)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"temperature": "0.1"}, r"generate\.temperature=0\.1 acts only where texts are sampled"),
        ({"do_sample": False, "seed": 3}, r"generate\.seed=3 acts only where texts are sampled"),
        ({"at": "never"}, r"generate\.at says when a run generates"),
        ({"temprature": 0.1}, "Did you mean 'temperature'"),
    ],
)
def test_options_that_cannot_act_are_refused(writer, options, reason):
    with pytest.raises(ConfigError, match=reason):
        writer[0].generating(options)


def test_a_run_that_samples_may_be_searched(writer):
    sampled = writer[0].generating({"do_sample": True, "temperature": 0.5})
    assert sampled.generating({"do_sample": False}).task.generate.temperature == 0.5


def test_a_task_that_writes_no_text_has_no_options(predictor, classification):
    with pytest.raises(ConfigError, match="task=classification generates no text: it has no num_beams to set"):
        predictor(classification()).generating({"num_beams": 2})


HEAVY = {"lightning", "wandb", "hydra", "peftlab.config", "peftlab.one_run", "peftlab.data.module"}


def imported_by(tree: ast.AST) -> Iterator[str]:
    """Yield what a module imports when it is imported itself, rather than when one of its functions is called."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.FunctionDef() | ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pass
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (module, *(f"{module}.{name.name}" for name in names))
            case _:
                yield from imported_by(node)


def needed_by(*modules: str) -> set[str]:
    """Return the modules that our `modules` import, and those that these import, as far as they are ours."""
    needed, left = set(), {*modules}
    while left:
        name = left.pop()
        needed |= {name, name.partition(".")[0]}
        path = Path(peftlab.__file__).parents[1].joinpath(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name.startswith("peftlab.") and file.is_file():
            left |= {*imported_by(ast.parse(file.read_text(encoding="utf-8"))), name.rpartition(".")[0]} - needed
    return needed


@pytest.mark.slow
def test_neither_lightning_nor_a_run_is_needed():
    assert not HEAVY & needed_by("peftlab.use.finished", "peftlab.use.predictor")
    assert HEAVY & needed_by("peftlab.one_run") >= {"lightning", "hydra", "peftlab.config"}


@pytest.mark.exhaustive
def test_neither_lightning_nor_a_run_is_imported():
    """In a process of its own, as the command and a server use it."""
    code = f"import sys, peftlab.use.finished, peftlab.use.predictor; print(sorted({HEAVY} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(Path(peftlab.__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout == "[]\n"
