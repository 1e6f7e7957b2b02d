"""Runs that learn from the answers of a finished run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from peftlab.earlier.remembered import EarlierRun
from peftlab.earlier.teacher import Teacher
from peftlab.errors import ConfigError, UserError
from peftlab.regularizers.distil import Distil
from peftlab.report.study import Run
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.tasks.batch import Batch
from peftlab.use.check import check
from peftlab.use.compression import distilling
from peftlab.use.compression.distilling import distil
from peftlab.use.compression.slicing import cut
from peftlab.use.derive import derive
from peftlab.use.finished import load

pytestmark = pytest.mark.slow

SHORT = ["budget.max_steps=3", "regularizer=[distil]"]


@pytest.fixture
def teacher(finished):
    return load(finished.folder)


def test_a_student_without_a_layer_comes_near_its_teacher(teacher):
    made = cut(teacher, drop_layers=1, examples=20)
    peft = {**made.peft, "learning_rate": 1e-2}  # fast, for the few steps of a test

    def fill(model):
        made.fill(model)
        with torch.no_grad():
            model.classifier.weight.zero_()  # so that there is something to learn

    short = derive([teacher], by="compress", how={"drop_layers": 1}, peft=peft, fill=fill)
    student = distil(short, teacher, max_epochs=10, alpha=1.0, hidden=0.1)
    record = RunRecord.load(student.folder.path)
    assert record.data["status"] == "completed"
    assert record.derived is None
    assert Run(record, "").overrides == {"regularizer": "[distil]"}
    assert student.model.config.num_hidden_layers == 1
    assert record.extensions["regularizers"]["distil"]["examples"] > 0
    apart = [distance(teacher, each) for each in (short, student)]
    assert apart[1] < 0.5 * apart[0]
    again = distil(short, teacher, max_epochs=10, alpha=1.0, hidden=0.1)
    assert again.folder.path == student.folder.path
    assert record.data["started_at"] == again.record.data["started_at"]
    assert check(RunFolder(record)).causes == []


@torch.no_grad()
def distance(run, other):
    """How far the answers of two runs of the same tokenizer are apart."""
    task, words = run.spec.task, ["Anna works for Acme in Rome .", "nobody said a word about Paris ."]
    examples = [run.predictor.example({"text": text}, f"text:{n}") for n, text in enumerate(words)]
    batch = task.collate(examples, task.encode(examples, run.processor, run.spec.data.limits), range(len(words)))
    first, second = (each.model(**batch.inputs).logits.softmax(-1) for each in (run, other))
    return float((first - second).abs().mean())


def test_the_teacher_is_part_of_the_identity_and_its_place_is_not(finished, run_tiny):
    elsewhere = Path(shutil.copytree(finished.folder, "elsewhere"))
    first = run_tiny(*SHORT, f"regularizer.distil.teacher={finished.folder}", "run_dir=first")
    again = run_tiny(*SHORT, f"regularizer.distil.teacher={elsewhere}", "run_dir=again")
    other = run_tiny(*SHORT, f"regularizer.distil.teacher={first.folder}", "run_dir=other")
    identities = [record.data["identity"]["sha256"] for record in (first, again, other)]
    assert identities[0] == identities[1] != identities[2]
    settled = load(first.folder).config["regularizer"]["distil"]
    assert Path(settled["teacher"]) == finished.folder.absolute()
    tensors = load_file(elsewhere / "adapter" / "adapter_model.safetensors")
    name = sorted(tensors)[0]
    save_file(tensors | {name: tensors[name] + 1}, elsewhere / "adapter" / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match=r"regularizer\.distil: .* not the run that this one began with"):
        run_tiny(
            *SHORT,
            f"regularizer.distil.teacher={elsewhere}",
            f"regularizer.distil.sha256={settled['sha256']}",
            "run_dir=changed",
        )
    assert not Path("changed").exists()


@pytest.fixture
def texts(tiny_texts):
    return ["task=classification", "data=csv", f"data.path={tiny_texts}"]


@pytest.fixture
def on_texts(run_once, texts):
    """A run on texts."""
    return run_once("distilled texts", *texts, "budget.max_steps=8")


def pupil(run, labels):
    """The specification of a run like another one, with its labels in another order."""
    spec = load(run.folder).spec
    spec.task.labels = labels
    return spec


def test_labels_are_matched_by_name(on_texts):
    run = load(on_texts.folder)
    labels = run.spec.task.labels
    examples = [run.predictor.example({"text": "Anna moved"}, "text:0")]
    encoded = run.spec.task.encode(examples, run.processor, run.spec.data.limits)
    batch = run.spec.task.collate(examples, encoded, [0])
    outputs = Teacher(str(on_texts.folder), pupil(on_texts, labels[::-1]), run.processor).outputs(batch)
    plain = run.model(**batch.inputs).logits.detach()
    torch.testing.assert_close(outputs.logits, plain.flip(-1))
    with pytest.raises(ConfigError, match="has other labels than this run, first 'compare'"):
        Teacher(str(on_texts.folder), pupil(on_texts, [*labels[1:], "elsewhere"]), run.processor)


def test_numbers_of_a_regression_are_on_the_scale_of_the_run_that_asks(run_tiny, tiny_numbers):
    record = run_tiny("task=regression", "data=csv", f"data.path={tiny_numbers}", "budget.max_steps=2")
    run, spec = load(record.folder), load(record.folder).spec
    (mean, sd), (spec.task.mean, spec.task.sd) = run.spec.task.settled().values(), (1.0, 0.5)
    examples = [run.predictor.example({"text": text}, f"text:{n}") for n, text in enumerate(["Anna moved", "nothing"])]
    encoded = run.spec.task.encode(examples, run.processor, run.spec.data.limits)
    batch = run.spec.task.collate(examples, encoded, range(2))
    expected = (run.model(**batch.inputs).logits.detach() * sd + mean - 1.0) / 0.5
    torch.testing.assert_close(Teacher(str(record.folder), spec, run.processor).outputs(batch).logits, expected)
    remembered = EarlierRun(str(record.folder), spec, run.processor).logits(examples)
    torch.testing.assert_close(torch.tensor(np.concatenate(remembered)), expected)


def test_ids_are_looked_up_among_those_that_the_teacher_knows(run_tiny, tiny_interactions):
    data = ["data=interactions", f"data.path={tiny_interactions}", "data.format.label=liked", "data.max_tokens=40"]
    record = run_tiny("task=click", *data, "budget.max_steps=2")
    run, spec = load(record.folder), load(record.folder).spec
    assert Teacher(str(record.folder), spec, run.processor).reads_alike
    spec.task.known_items = run.spec.task.known_items[::-1]
    fields = [{"text": "maria moved to paris", "item": item} for item in ("i3", "i4")]
    examples = [run.predictor.example(each, f"text:{n}") for n, each in enumerate(fields)]
    encoded = run.spec.task.encode(examples, run.processor, run.spec.data.limits)
    theirs, mine = (task.collate(examples, encoded, range(2)) for task in (run.spec.task, spec.task))
    expected = run.model(**theirs.inputs).logits.detach()
    assert not torch.equal(run.model(**mine.inputs).logits, expected)
    torch.testing.assert_close(Teacher(str(record.folder), spec, run.processor).outputs(mine).logits, expected)


def test_a_teacher_that_has_seen_the_fold_is_refused(on_texts):
    run, spec = load(on_texts.folder), load(on_texts.folder).spec
    digest = run.record.data["identity"]["data_sha256"]["train"]
    spec.data.fold = "2/5"
    with pytest.raises(ConfigError, match=r"trained on the examples that this run is tested on: .*=null, and .* 2/5"):
        Teacher(str(on_texts.folder), spec, run.processor, digest)
    Teacher(str(on_texts.folder), spec, run.processor, "of other data")


def test_a_trained_run_is_distilled_at_its_own_learning_rate(teacher, monkeypatch):
    class Stop(Exception):
        pass

    def train(config, *others):
        raise Stop(config["optimizer"]["lr"])

    monkeypatch.setattr(distilling, "train", train)
    with pytest.raises(Stop, match=r"^0\.01$"):  # that of its method is another one
        distil(teacher, teacher)


def test_a_student_of_another_tokenizer_learns_from_whole_texts_alone(
    on_texts, run_tiny, texts, language_model, finished
):
    other = f"model.path={language_model('llama')}"
    record = run_tiny(*texts, other, *SHORT, f"regularizer.distil.teacher={on_texts.folder}", "run_dir=a")
    assert record.data["status"] == "completed"
    with pytest.raises(ConfigError, match="has another tokenizer, and models of task=ner answer for each token"):
        run_tiny(other, *SHORT, f"regularizer.distil.teacher={finished.folder}", "run_dir=b")
    with pytest.raises(ConfigError, match=r"hidden=1: hidden states .* at the same tokens"):
        run_tiny(
            *texts, other, *SHORT, f"regularizer.distil.teacher={on_texts.folder}", "regularizer.distil.hidden=1.0"
        )
    assert not Path("b").exists()


def test_its_own_encoding_is_filled_up_as_the_batch_is(on_texts, language_model):
    from types import SimpleNamespace

    run = load(on_texts.folder)
    strange = SimpleNamespace(fingerprint=lambda: "other", transform=None)
    teacher = Teacher(str(on_texts.folder), run.spec, strange)
    assert not teacher.reads_alike
    examples = [run.predictor.example({"text": text}, "text:0") for text in ("Anna moved", "nothing")]
    rows = torch.tensor([0, 1, 2])
    batch = Batch({}, {}, torch.tensor([1.0, 1.0, 0.0]), rows=rows, examples=examples, tokens=2, copies=1)
    logits = teacher.outputs(batch).logits
    assert torch.equal(logits[2], logits[0])
    with pytest.raises(ConfigError, match=r"divides long texts .* data.long=truncate"):
        teacher.outputs(Batch({}, {}, batch.weights, rows=rows, examples=examples, tokens=2))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "regularizer.distil: teacher is null"),
        (["regularizer.distil.teacher=nowhere"], "regularizer.distil: 'nowhere' is no"),
    ],
)
def test_what_is_no_teacher(overrides, message, run_tiny):
    with pytest.raises(UserError, match=message):
        run_tiny(*SHORT, *overrides)
    assert not Path("runs").exists()


def test_a_run_of_another_task_is_none(on_texts, run_tiny):
    with pytest.raises(ConfigError, match="is a run of task=classification, and this one is of ner"):
        run_tiny(*SHORT, f"regularizer.distil.teacher={on_texts.folder}")


def test_no_frozen_layer_is_skipped_where_hidden_states_are_compared(finished, run_tiny):
    """Cached activations are chosen by themselves for a head alone, and then the layers below give no states."""
    head = ["peft=head", *SHORT, f"regularizer.distil.teacher={finished.folder}", "regularizer.distil.hidden=0.1"]
    record = run_tiny(*head, "run_dir=a")
    assert record.data["status"] == "completed"
    assert "activation_cache" not in record.data["cost"]
    with pytest.raises(ConfigError, match=r"cache_activations=true: regularizer\.distil reads the hidden states"):
        run_tiny(*head, "trainer.cache_activations=true", "run_dir=b")


TASKS = ["multilabel", "regression", "choice", "joint", "relation", "qa", "causal_lm", "seq2seq"]


@pytest.mark.exhaustive
def test_every_task_can_be_learnt_from_a_run(run_tiny, data_for, compose_config, language_model):
    """Its own run, whose answers a second one with another seed is to give."""
    from pydoc import locate

    for name in TASKS:
        task = locate(compose_config(f"task={name}").task._target_)
        given = [f"task={name}", *data_for(task), "budget.max_steps=2", "budget.test=false"]
        if name in ("causal_lm", "seq2seq"):
            given += [f"model.path={language_model('llama' if name == 'causal_lm' else 't5')}"]
            given += ["task.generate.at=never"]
        teacher = run_tiny(*given, f"run_dir=of_{name}")
        learner = [*given, "seed=1", "regularizer=[distil]", f"regularizer.distil.teacher={teacher.folder}"]
        record = run_tiny(*learner, f"run_dir=from_{name}")
        assert record.extensions["regularizers"]["distil"]["examples"] > 0, name
    assert Distil().replaces == 0.5


def test_a_run_of_no_step_says_for_how_long_it_is_distilled(teacher):
    untrained = load(teacher.folder.path)
    untrained.config["budget"]["max_steps"] = 0
    with pytest.raises(UserError, match=r"was trained for no step .* say how many epochs, distil=EPOCHS"):
        distil(untrained, teacher)
