"""Runs that answer together: by name, on one backbone, as each does alone."""

from __future__ import annotations

import pytest
import torch
from tests.answers import flat

from peftlab.errors import ConfigError, DataError, UserError
from peftlab.runs.folder import read_predictions
from peftlab.serving.models.models import Models, UnknownModelError
from peftlab.serving.observing import reference as references
from peftlab.use.ensembles.averaging import average
from peftlab.use.finished import load
from peftlab.use.predictor import Refused

TEXTS = ["Ada Lovelace moved to Paris .", "nothing", "the Acme report was read by Alan Turing"]


@pytest.fixture(scope="session")
def runs(finished, finished_writer, run_once, tiny_texts, tiny_choices, tmp_path_factory):
    """Runs of several tasks and methods; tests only read them."""
    of_texts = ["task=classification", "data=csv", f"data.path={tiny_texts}", "budget.max_steps=4"]
    of_choices = ["task=choice", "data=choices", f"data.path={tiny_choices}", "budget.max_steps=4"]
    made = {
        "lora": finished,
        "full": run_once("member-full", "peft=full", "seed=2", "optimizer.lr=1e-3", "budget.max_steps=40"),
        "texts": run_once("served-texts", *of_texts, "peft=ia3"),
        "choices": run_once("served-choices", *of_choices, "data.format.rows.context=context"),
        "writer": finished_writer,
    }
    folders = {name: record.folder for name, record in made.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("ensemble"))
        both = average([load(folders[name]) for name in ("lora", "full")], temperature=1.0)
        return folders | {"both": both.folder.path.absolute()}


@pytest.fixture(scope="session")
def models(runs):
    return Models([f"{name}={folder}" for name, folder in runs.items()])


def inputs(models, name):
    if name in ("choices", "writer"):
        return [models.card(name).example] * 2
    return TEXTS


@pytest.mark.slow
def test_runs_of_every_kind_answer_together_as_alone(models, runs):
    assert {name for name in models.names if models.card(name).mixed} == {"lora", "texts", "choices"}
    queries = [
        models.read(name, one) for n in range(3) for name in models.names for one in inputs(models, name)[n : n + 1]
    ]
    answers = models.answers(queries)
    assert not any(isinstance(answer, Refused) for answer in answers)
    for name, folder in runs.items():
        own = load(folder).predict(inputs(models, name))
        mine = [answer for query, answer in zip(queries, answers, strict=True) if query.model == name]
        assert flat(mine) == pytest.approx(flat(own), abs=1e-5)


@pytest.mark.slow
def test_a_run_alone_in_a_batch_answers_bit_for_bit(models, runs):
    for name, folder in runs.items():
        own, (one, *_) = load(folder), inputs(models, name)
        assert models.answers([models.read(name, one)]) == own.predict([one])


@pytest.mark.slow
def test_a_bad_input_is_refused_alone(models):
    with pytest.raises(DataError, match="choices"):
        models.read("choices", {"question": "where?"})
    with pytest.raises(UnknownModelError, match="Did you mean 'texts'"):
        models.read("text", "a")
    with pytest.raises(ConfigError, match="generates no text"):
        models.read("lora", "a", max_new_tokens=3)


def test_runs_share_the_memory_of_what_they_have_not_changed(models):
    lora, texts = (models._served[name].predictor.model.get_base_model().base_model for name in ("lora", "texts"))
    embeddings = [one.embeddings.word_embeddings.weight.data_ptr() for one in (lora, texts)]
    assert (
        len({*embeddings, models._served["lora"].mixed._trunk.base.embeddings.word_embeddings.weight.data_ptr()}) == 1
    )


@pytest.mark.slow
def test_what_a_model_writes_is_streamed(models, runs):
    example = models.card("writer").example
    pieces = list(models.stream(models.read("writer", example, max_new_tokens=5)))
    assert "".join(pieces) == load(runs["writer"]).predict([example], max_new_tokens=5)[0]["written"]
    (answer,) = models.answers([models.read("writer", example, max_new_tokens=5)])
    assert answer["written"] == "".join(pieces)


@pytest.mark.slow
def test_runs_come_and_go(runs):
    models = Models([str(runs["lora"])])
    (name,) = models.names
    assert models.default == name
    with pytest.raises(UserError, match="two runs are called"):
        models.add(str(runs["lora"]))
    for odd in ("", "admin", "a/b", "a b"):
        with pytest.raises(UserError, match="names no model"):
            models.add(f"{odd}={runs['texts']}")
    query = models.read(name, TEXTS[0])
    assert models.add(f"other={runs['texts']}") == "other"
    assert models.default is None
    before = models.answers([query])
    models.remove(name)
    assert models.names == ("other",)
    (gone,) = models.answers([query])
    assert "no longer here" in str(gone.reason)
    models.add(f"{name}={runs['lora']}")
    assert models.answers([query, models.read("other", TEXTS[0])])[:1] == before
    models.remove(name)
    models.add(f"{name}={runs['full']}")
    (gone, now) = models.answers([query, models.read(name, TEXTS[0])])
    assert "no longer here" in str(gone.reason)  # another run has its name, and has not read it
    with pytest.raises(DataError, match="no longer here"):
        models.stream(query)
    assert flat([now]) == pytest.approx(flat(load(runs["full"]).predict(TEXTS[:1])))
    for left in models.names:
        models.remove(left)
    assert models.names == ()


@pytest.mark.slow
def test_answers_in_bf16_are_near_those_in_fp32(runs, models):
    rounded = Models([f"{name}={runs[name]}" for name in ("lora", "texts")], precision="bf16", device="cpu")
    queries = [rounded.read(name, TEXTS[0]) for name in rounded.names]
    exact = models.answers([models.read("texts", TEXTS[0])])
    near = rounded.answers(queries)[1:]
    assert near != exact
    assert near[0]["probability"] == pytest.approx(exact[0]["probability"], abs=0.02)
    with pytest.raises(ConfigError, match="fp32 and bf16"):
        Models([], precision="int3")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no GPU"):
            Models([], device="cuda")


def test_tokens_that_the_vocabulary_lacks_are_counted(models):
    for name in ("lora", "texts"):
        assert models.read(name, "nothing \u4e00 Paris \u4e00").unknown == models.read(name, "nothing").unknown + 2


@pytest.mark.slow
def test_drift_is_measured_from_what_each_run_answers_to_its_validation_split(models, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(references, "cache_root", lambda: tmp_path)
    monkeypatch.setattr(references, "FEWEST", 1)
    for name in models.names:
        rows = read_predictions(runs[name] / "predictions" / "validation.jsonl")
        reference = references.reference(models, name)
        assert len(reference.counts) == len(rows), name
        has_labels = reference.counts[:, reference._places["labels"]].any()
        assert has_labels == (name in ("lora", "full", "texts", "both")), name
