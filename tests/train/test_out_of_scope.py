"""Runs that learn what is out of their scope: measured, kept, loaded, served, and checked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import peftlab as package
from peftlab.answer_search.arguments import Settings
from peftlab.errors import ConfigError, UserError
from peftlab.report.drawing.drawn import draw
from peftlab.report.sections.out_of_scope import section as section_of
from peftlab.report.study import Run
from peftlab.runs.folder import RunFolder, read_predictions
from peftlab.runs.record import RunRecord
from peftlab.serving.models.models import Models
from peftlab.storage.digests import file_sha256
from peftlab.use.check import check
from peftlab.use.ensembles.averaging import average

LEARNING = ["optimizer.lr=5e-3", "budget.max_steps=30", "model.dropout=0", "data.eval_batch_size=8"]
FAR = ["zebra quartz umbrella", "1234 5678", "lorem ipsum dolor sit amet"]


@pytest.fixture(scope="session")
def far(made_once) -> Path:
    return made_once("far", lambda folder: (folder / "far.txt").write_text("\n".join(FAR))) / "far.txt"


@pytest.fixture(scope="session")
def scoped(run_once, tiny_texts, far):
    """A finished run with a label held out, far texts, conformal sets and costs; tests only read it."""
    return run_once(
        "scoped",
        *("task=classification", "data=csv", f"data.path={tiny_texts}", *LEARNING),
        *("out_of_scope=knn", "out_of_scope.options.k=3", "out_of_scope.held_out=1", f"out_of_scope.far={far}"),
        "out_of_scope.conformal={alpha: 0.2, kind: aps}",
        "out_of_scope.costs={wrong: 10, ask: 1, escalate: 3}",
    )


@pytest.fixture
def copy(scoped) -> Path:
    return Path(shutil.copytree(scoped.folder, "run"))


@pytest.mark.slow
def test_what_is_out_of_scope_is_never_a_class_and_is_tested_apart(scoped):
    section = scoped.data["out_of_scope"]
    (held_out,) = section["held_out"]
    assert held_out not in scoped.data["data"]["labels"]
    assert len(scoped.data["data"]["labels"]) == 4
    rows = read_predictions(scoped.folder / "predictions" / "out_of_scope.jsonl")
    sets = {name: [row for row in rows if row["set"] == name] for name in ("validation", "test", "near", "far")}
    assert {name: len(of) for name, of in sets.items()} == section["texts"]
    assert section["texts"]["test"] + section["texts"]["near"] == 16
    assert {row["gold"] for row in sets["near"]} == {held_out}
    assert [row["input"] for row in sets["far"]] == FAR
    in_scope = {row["id"]: row["predicted"] for row in read_predictions(scoped.folder / "predictions" / "test.jsonl")}
    assert {row["id"]: row["predicted"] for row in sets["test"]} == in_scope
    threshold = section["learnt"]["threshold"]
    assert sum(row["score"] < threshold for row in sets["validation"]) <= 0.05 * len(sets["validation"])
    assert section["test"]["accuracy"] == pytest.approx(scoped.score("test", "accuracy"))
    assert section["outside"]["near"]["share"] == len(sets["near"]) / 16
    assert 0 <= section["conformal"]["coverage"] <= 1
    assert section["conformal"]["checkpoints"] > 1
    assert section["conformal"]["slack"] > 0
    assert section["cheapest"]["test"]["cost"] >= 0


@pytest.mark.slow
def test_a_loaded_run_says_of_each_answer_whether_it_is_in_scope(scoped):
    run = package.load(scoped.folder)
    rows = read_predictions(scoped.folder / "predictions" / "out_of_scope.jsonl")
    answers = run.predict([row["input"] for row in rows])
    for row, answer in zip(rows, answers, strict=True):
        assert answer["score"] == pytest.approx(row["score"], abs=1e-4)
        assert answer["in_scope"] == (answer["score"] >= run.scope.threshold)
        assert answer["action"] in ("answered", "asked", "escalated")
        assert set(answer["labels"]) <= set(scoped.data["data"]["labels"])
        if not answer["in_scope"] or not answer["labels"]:
            assert answer["action"] == "escalated"


@pytest.mark.slow
def test_stored_answers_stand_in_for_what_is_out_of_scope(scoped, peftlab, tmp_path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "zebra.md").write_text("A zebra is an animal.", encoding="utf-8")
    (tmp_path / "pages" / "paris.md").write_text("Paris is a city.", encoding="utf-8")
    assert peftlab("answers", "pages", "--out", "index", "--run", scoped.folder)[0] == 0
    code, out, _ = peftlab("answers", "index", "zebra", "--retriever", "hybrid", "--json")
    assert code == 0
    assert json.loads(out)["questions"][0]["answers"][0]["id"] == "zebra.md"
    (tmp_path / "asked.jsonl").write_text('{"text": "a zebra", "answers": ["zebra.md"]}\n', encoding="utf-8")
    code, out, _ = peftlab("answers", "index", "--evaluate", "asked.jsonl", "--retriever", "bm25", "--json")
    assert json.loads(out)["scores"] == {"ndcg@3": 1.0, "mrr@3": 1.0, "recall@3": 1.0}
    texts = [*FAR, "Unesco hired Noether in Rome yesterday"]
    code, out, err = peftlab(
        "predict", scoped.folder, *texts, "--fallback", "index", "--retriever", "bm25", "--top-k", "1", "--json"
    )
    assert code == 0, err
    answers = [json.loads(line) for line in out.splitlines()]
    assert any(answer["action"] == "escalated" for answer in answers)
    for answer in answers:
        assert ("fallback" in answer) == (answer["action"] == "escalated")
        if "zebra" in answer["text"] and "fallback" in answer:
            assert [one["id"] for one in answer["fallback"]] == ["zebra.md"]
    shown = peftlab("predict", scoped.folder, *texts, "--fallback", "index", "--retriever", "bm25")[1]
    assert "in scope" in shown
    assert peftlab("predict", scoped.folder, "one", "--retriever", "bm25")[0] == 2


@pytest.mark.slow
def test_evaluating_again_says_the_same_of_the_scope(scoped, tiny_texts, peftlab):
    run = package.load(scoped.folder)
    evaluation = run.evaluate()
    assert evaluation.equal
    section = {key: value for key, value in scoped.data["out_of_scope"].items() if key not in ("learnt", "held_out")}
    assert evaluation.scope == section
    shown = peftlab("evaluate", scoped.folder, "--data", tiny_texts / "test.csv")[1]
    assert "near" in shown
    assert "AUROC" in shown


@pytest.mark.slow
def test_a_run_made_of_it_knows_which_labels_are_held_out(scoped, tiny_texts):
    run = package.load(scoped.folder)
    derived = average([run], temperature=1.0)
    assert derived.scope is None
    new = [one.evaluate(tiny_texts / "test.csv").scores for one in (run, derived)]
    assert [(score.name, score.value) for score in new[0]] == [(score.name, score.value) for score in new[1]]


def causes(folder: Path, seal) -> list[str]:
    """Return what the run check says once all digests of files are put right."""
    data = json.loads((folder / "record.json").read_text())
    seal(data)
    for file in data["files"]:
        path = folder / file["path"]
        file |= {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    (folder / "record.json").write_text(json.dumps(data))
    return [cause.what for cause in check(RunFolder(RunRecord.load(folder))).causes]


@pytest.mark.slow
def test_the_check_of_a_run_finds_what_does_not_follow(copy):
    assert causes(copy, lambda data: None) == []
    better = causes(copy, lambda data: data["out_of_scope"]["test"].update(accuracy=1.0))
    assert any("out_of_scope" in what for what in better)
    decisions = json.loads((copy / "adapter" / "decisions.json").read_text())
    decisions["out_of_scope"]["threshold"] = -1.0
    (copy / "adapter" / "decisions.json").write_text(json.dumps(decisions))
    assert any("decisions.json" in what for what in causes(copy, lambda data: None))
    with pytest.raises(UserError, match="'out_of_scope' in adapter/decisions"):
        package.load(copy)


@pytest.mark.slow
def test_a_label_of_the_data_may_stand_for_what_is_out_of_scope(run_tiny, tiny_texts):
    label = (tiny_texts / "train.csv").read_text().splitlines()[1].rpartition(",")[2]
    overrides = ["task=classification", "data=csv", f"data.path={tiny_texts}", *LEARNING, "run_dir=run"]
    record = run_tiny(
        *(*overrides, "budget.max_steps=2", "out_of_scope=energy", f"out_of_scope.label={label}"),
        "out_of_scope.threshold=recall:0.5",
    )
    section = record.data["out_of_scope"]
    assert label not in record.data["data"]["labels"]
    assert section["texts"].keys() == {"validation", "test", "labelled", "labelled_validation"}
    assert record.data["label_budget"]["selects"][-1] == "out of scope"
    assert package.load("run").predict(["Paris is larger than Rome"])[0].keys() >= {"in_scope", "score"}
    assert check(RunFolder(RunRecord.load(Path("run")))).causes == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["out_of_scope=energy", "task=multilabel"], "does not give each text one of some labels"),
        (["out_of_scope=energy", "+out_of_scope.options.k=3"], r"there is no key 'out_of_scope.options.k'"),
        (["out_of_scope=energy", "out_of_scope.threshold=fpr"], "expected fpr:0.05"),
        (["out_of_scope=energy", "out_of_scope.threshold=nan"], "no text would be on the other side"),
        (["out_of_scope=energy", "out_of_scope.threshold=cheapest"], "it needs costs"),
        (["out_of_scope=energy", "out_of_scope.threshold=recall:0.9"], "needs validation texts out of scope"),
        (["out_of_scope=energy", "out_of_scope.score=enrgy"], r"Did you mean 'energy'\?"),
        (["out_of_scope=knn", "trainer.compile=true"], "calls no hooks"),
        (["out_of_scope=knn", "out_of_scope.options.k=1000"], "training texts. Choose at most as many"),
        (["out_of_scope=mahalanobis", "budget.per_class=1", "budget.train_examples=null"], "none has two that differ"),
        (["out_of_scope=energy", "out_of_scope.held_out=4"], "Hold out fewer"),
        (["out_of_scope=energy", "out_of_scope.held_out=[nowhere]"], "no training example has the label 'nowhere'"),
        (["out_of_scope=energy", "out_of_scope.label=oos"], "no example has the label 'oos'"),
    ],
)
def test_what_does_not_go_together_is_refused(run_tiny, tiny_texts, overrides, message):
    data = ["data=csv", f"data.path={tiny_texts}"]
    with pytest.raises(UserError, match=message):
        run_tiny("task=classification", *data, *overrides, "run_dir=run")
    assert not Path("run").exists()
    assert issubclass(ConfigError, UserError)


@pytest.mark.slow
def test_a_server_answers_as_predict_does(scoped, peftlab, tmp_path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "zebra.md").write_text("A zebra is an animal.", encoding="utf-8")
    assert peftlab("answers", "pages", "--out", "index")[0] == 0
    models = Models([f"mine={scoped.folder}", f"other={scoped.folder}"], fallback=Settings(Path("index")))
    texts = [*FAR, "Unesco hired Noether in Rome yesterday"]
    queries = [models.read(name, text) for name in ("mine", "other") for text in texts]
    answers = models.answers(queries)  # of two runs in one batch
    for answer, expected in zip(answers, 2 * package.load(scoped.folder).predict(texts), strict=True):
        stored = answer.pop("fallback", None)
        assert (stored is not None) == (expected["action"] == "escalated")
        assert answer["score"] == pytest.approx(expected["score"], abs=1e-3)
        assert answer["labels"] == expected["labels"]


@pytest.mark.slow
def test_a_report_has_a_table_of_texts_out_of_scope_the_sets_and_a_figure(scoped):
    groups = [SimpleNamespace(name="lora", runs=[Run(scoped, "here")])]
    made = section_of(SimpleNamespace(comparison=SimpleNamespace(name="texts", groups=groups)))
    _, table, sets, figure = made.blocks
    assert [row[5].text for row in table.rows] == ["near", "far"]
    assert sets.rows[0][2].text == "0.8000"
    assert "out of the axis" not in draw(figure).svg
    other = SimpleNamespace(record=SimpleNamespace(extensions={}))
    groups = [SimpleNamespace(name="lora", runs=[other])]
    assert section_of(SimpleNamespace(comparison=SimpleNamespace(name="texts", groups=groups))) is None


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["out_of_scope=knn", "task=contrastive", "out_of_scope.options.k=2"],
        ["out_of_scope=mahalanobis", "model=llama"],
        ["out_of_scope=mahalanobis", "model=llama", "peft=p_tuning"],
        ["out_of_scope=msp", "task=prompt", "model=llama", r'task.template="{text} :{answer}"'],
        ["out_of_scope=energy", "out_of_scope.held_out=null", "data=pairs"],
        ["out_of_scope=knn", "trainer.precision=bf16-mixed", "model.pooling=mean"],
    ],
    ids=lambda overrides: " ".join(overrides[:2]),
)
def test_every_classifier_can_say_it(run_tiny, tiny_texts, language_model, tmp_path, overrides):
    more = ["task=classification", "data=csv", f"data.path={tiny_texts}", "out_of_scope.held_out=1", "run_dir=run"]
    if "model=llama" in overrides:
        more += [f"model.path={language_model('llama')}", "model.dropout=null", "model.head_dropout=null"]
    if "data=pairs" in overrides:
        rows = [
            f"{a} {n},{b},{'yes' if a == b else 'no'}"
            for n in range(20)
            for a in ("rome", "paris")
            for b in ("rome", "paris")
        ]
        (tmp_path / "pairs.csv").write_text("\n".join(["one,other,same", *rows]) + "\n", encoding="utf-8")
        more += ["data.path=pairs.csv", "data.splits={train: pairs.csv, validation: 0.2, test: 0.3}"]
        more += ["data.format.text=one", "data.format.pair=other", "data.format.label=same"]
    chosen = [one for one in overrides if one not in ("model=llama", "data=pairs")]
    run_tiny(*more, "budget.max_steps=3", *chosen)
    run = package.load("run")
    rows = read_predictions(Path("run/predictions/out_of_scope.jsonl"))
    inputs = [
        one if isinstance(one, str) else dict(zip(("text", "text_pair"), one, strict=True))
        for one in (row["input"] for row in rows)
    ]
    answers = run.predict(inputs)
    close = 0.05 if "trainer.precision=bf16-mixed" in overrides else 1e-3
    assert [one["score"] for one in answers] == pytest.approx([row["score"] for row in rows], rel=close, abs=close)
    assert check(RunFolder(RunRecord.load(Path("run")))).causes == []
