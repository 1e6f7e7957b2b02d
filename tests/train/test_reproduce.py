"""A run trained again: the same bits, and what is said where they are not the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftlab.errors import UserError
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.storage.digests import file_sha256
from peftlab.use import check as run_check
from peftlab.use.check import check
from peftlab.use.claims import Cause, Findings
from peftlab.use.reproduce import SPREAD, judge, reproduce

CPU = Cause("environment", "cpu", "one", "other")
NOTHING, ELSEWHERE = Findings([], []), Findings([CPU], [])


@pytest.fixture
def copy(finished) -> Path:
    return Path(shutil.copytree(finished.folder, "runs/mine/original"))


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> RunFolder:
    """Edit the record; return the folder as it is then."""
    record = json.loads((folder / "record.json").read_text())
    edit(record)
    (folder / "record.json").write_text(json.dumps(record))
    return RunFolder(RunRecord.load(folder))


def rewrite(folder: Path, name: str, text: str) -> RunFolder:
    """Change a file together with its digest in the record."""
    (folder / name).write_text(text)

    def seal(record):
        (file,) = [file for file in record["files"] if file["path"] == name]
        file |= {"sha256": file_sha256(folder / name), "bytes": (folder / name).stat().st_size}

    return change(folder, seal)


def score(record: dict[str, Any], split: str, name: str) -> dict[str, Any]:
    (found,) = [m for m in record["metrics"] if (m["split"], m["name"]) == (split, name)]
    return found


def as_before(folder: Path, edit: Callable[[dict[str, Any]], object] = lambda row: None) -> RunFolder:
    """As if an older version had made the predictions: they have fewer keys, and the record their digests."""
    for split in ("validation", "test"):
        name = f"predictions/{split}.jsonl"
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        for row in rows:
            del row["probabilities"], row["group"]
            edit(row)
        run_folder = rewrite(folder, name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return run_folder


def other_course(folder: Path) -> RunFolder:
    """As if the training had taken another course: other weights from step 4 on, and another adapter."""
    lines = (folder / "trail.jsonl").read_text().splitlines()
    for number, line in enumerate(lines):
        point = json.loads(line)
        if point.get("step", 0) >= 4:
            lines[number] = json.dumps(point | {"hashes": ["0" * 16, *point["hashes"][1:]]})
    return rewrite(folder, "trail.jsonl", "\n".join(lines) + "\n")


class TestReproduce:
    @pytest.fixture
    def more_threads(self):
        """Have this process use one thread more than the run."""
        threads = torch.get_num_threads()
        torch.set_num_threads(threads + 1)
        yield threads
        torch.set_num_threads(threads)

    @pytest.mark.slow
    def test_the_same_bits_with_the_threads_of_the_run(self, copy, finished, more_threads):
        before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
        verdict = reproduce("original")
        assert torch.get_num_threads() == more_threads + 1
        assert (verdict.verdict, verdict.causes, verdict.fork) == ("identical", [], None)
        assert verdict.because.startswith("trail (8 points), trained weights, predictions and scores came out the same")
        again = Path("reproductions/ner-files-lora/original")
        assert verdict.again == str(again)
        assert check(RunFolder(RunRecord.load(again))).causes == []
        for name in ("adapter/adapter_model.safetensors", "predictions/test.jsonl", "trail.jsonl"):
            assert (again / name).read_bytes() == (copy / name).read_bytes()
        assert RunRecord.load(again).data["metrics"] == finished.data["metrics"]
        assert RunRecord.load(again).data["environment"]["threads"] == more_threads
        assert {path: path.read_bytes() for path in before} == before
        assert {path.name for path in copy.iterdir()} - {path.name for path in finished.folder.iterdir()} == {
            "reproduction.json"
        }

    @pytest.mark.slow
    def test_verdicts_are_kept_the_newest_last(self, copy):
        reproduce(copy, check_only=True)
        change(copy, lambda record: record.update(status="interrupted"))
        reproduce(copy, check_only=True)
        kept = json.loads((copy / "reproduction.json").read_text())
        assert [one["verdict"] for one in kept] == ["identical", "not comparable"]
        assert kept[1]["causes"] == [{"kind": "status", "what": "status", "then": "interrupted", "now": None}]
        assert [path.name for path in copy.glob(".*")] == [".lock"]

    def test_what_is_not_comparable_is_not_trained(self, copy):
        change(copy, lambda record: record["identity"]["data_sha256"].update(test="0" * 64))
        verdict = reproduce(copy)
        assert (verdict.verdict, verdict.again) == ("not comparable", None)
        assert not Path("reproductions").exists()

    def test_a_folder_that_is_taken_is_left_alone(self, copy):
        Path("taken").mkdir()
        Path("taken/mine").write_text("mine")
        with pytest.raises(UserError, match="'taken' is there already and not empty"):
            reproduce(copy, out="taken")
        assert not (copy / "reproduction.json").exists()

    def test_half_a_record_is_told(self, copy):
        record = json.loads((copy / "record.json").read_text())
        del record["identity"]["weights_sha256"]
        (copy / "record.json").write_text(json.dumps(record))
        told = r"original/record\.json' is not a run record: identity\.weights_sha256 is missing"
        with pytest.raises(UserError, match=told):
            reproduce(copy)


class TestCheck:
    def test_a_run_is_what_its_record_says(self, copy):
        assert check(RunFolder(RunRecord.load(copy))).causes == []

    def test_every_file_is_held_against_its_digest(self, copy):
        for name in ("predictions/test.jsonl", "adapter/adapter_config.json", "metrics.csv"):
            (copy / name).write_text((copy / name).read_text() + "\n")
        found = check(RunFolder(RunRecord.load(copy))).causes
        assert {cause.what for cause in found if cause.kind == "edited"} >= {
            "predictions/test.jsonl",
            "adapter/adapter_config.json",
            "metrics.csv",
        }

    @pytest.mark.slow
    def test_a_file_that_is_gone_is_told(self, copy):
        shutil.rmtree(copy / "checkpoints")
        shutil.rmtree(copy / "predictions")
        causes = check(RunFolder(RunRecord.load(copy))).causes
        gone = ["checkpoints/best.safetensors", "predictions/test.jsonl", "predictions/validation.jsonl"]
        assert sorted((cause.kind, cause.what) for cause in causes) == [("gone", name) for name in gone]
        verdict = judge(RunFolder(RunRecord.load(copy)), Findings(causes, []), None)
        assert (verdict.verdict, verdict.reproduced) == ("incomplete", False)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("edit", "what"),
        [
            (
                lambda r: score(r, "test", "entity_f1").update(value=0.99),
                "test entity_f1 does not follow from the pred",
            ),
            (lambda r: r["selection"].update(value=0.99), "selection.value"),
            (lambda r: r["environment"].update(seeds={"global": 3}), "environment.seeds.global"),
            (lambda r: r["environment"].update(precision="bf16-mixed"), "environment.precision"),
            (lambda r: r["method"].update(name="full"), "method.name"),
            (lambda r: r["identity"].update(sha256="0" * 64), "identity.sha256"),
            (lambda r: r.update(run_id="0" * 12), "run_id"),
            (lambda r: r["environment"].update(packages_sha256="0" * 64), "environment.packages_sha256"),
        ],
    )
    def test_a_record_that_contradicts_itself(self, copy, edit, what):
        (cause,) = [cause for cause in check(change(copy, edit)).causes if cause.kind == "edited"]
        assert cause.what.startswith(f"record.json: {what}")

    @pytest.mark.slow
    @pytest.mark.parametrize("text", ['{"id": ', "[]\n", '{"id": "test:0"}\n'])
    def test_predictions_that_cannot_be_scored(self, copy, text):
        (cause,) = check(rewrite(copy, "predictions/test.jsonl", text)).causes
        assert (cause.kind, cause.what) == ("edited", "predictions/test.jsonl")

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("edit", "kind"),
        [
            (lambda r: r["identity"]["data_sha256"].update(train="0" * 64), "data"),
            (lambda r: r["identity"].update(weights_sha256="0" * 64), "weights"),
            (lambda r: r["code"].update(commit="0" * 40), "code"),
            (lambda r: r["environment"].update(python="2.7"), "environment"),
        ],
    )
    def test_what_is_not_here_any_more(self, copy, edit, kind):
        assert kind in {cause.kind for cause in check(change(copy, edit)).causes}

    def test_data_that_is_gone(self, copy, monkeypatch):
        def gone(*_):
            raise UserError("it is gone")

        monkeypatch.setattr(run_check, "split_files", gone)
        (cause,) = check(RunFolder(RunRecord.load(copy))).causes
        assert (cause.kind, cause.now) == ("data", "it is gone")

    @pytest.mark.slow
    def test_a_fold_is_tested_in_place_of_the_test_split(self, run_tiny):
        record = run_tiny("data.fold=1/2", "budget.max_steps=6")
        assert check(RunFolder(RunRecord.load(record.folder))).causes == []

    @pytest.mark.slow
    def test_files_beside_the_splits_are_data_too(self, run_tiny, tiny_texts):
        key, listing, more = Path("key"), Path("listing.csv"), Path("more.txt")
        key.write_text("k" * 32)
        listing.write_text("split,id,reason\ntrain,train:3,label error\n")
        more.write_text("one more text\nand another\n")
        record = run_tiny(
            *("task=classification", "data=csv", f"data.path={tiny_texts}", "data.max_tokens=64", "budget.max_steps=2"),
            f"data.mask_pii={{with: surrogate, key: {key}, kinds: [email]}}",
            f"data.clean={{label_errors: drop, label_errors_from: {listing}}}",
            *("semi=fixmatch", "semi.strong=null", "semi.mu=1", f"semi.unlabelled={more}"),
        )
        folder = RunFolder(RunRecord.load(record.folder))
        assert check(folder).causes == []
        for file in (key, listing, more):
            before = file.read_text()
            file.write_text(f"{before}{before}")
            (cause,) = check(folder).causes
            assert (cause.kind, cause.what.endswith(f"{file})")) == ("data", True)
            file.write_text(before)

    @pytest.mark.slow
    def test_packages_by_name(self, copy):
        text = (copy / "packages.txt").read_text()
        rewrite(copy, "packages.txt", text.replace("\ntorch==", "\ntorch==1."))
        digest = file_sha256(copy / "packages.txt")
        folder = change(copy, lambda record: record["environment"].update(packages_sha256=digest))
        (cause,) = check(folder).causes
        assert (cause.kind, cause.what, cause.then) == ("packages", "torch", f"1.{cause.now}")

    @pytest.mark.slow
    def test_a_key_of_the_configuration_by_name(self, run_tiny, tiny_overrides):
        """Where the overrides in the record give the configuration of its identity, they tell what has been changed."""
        from peftlab.python_api import run

        record = run(*tiny_overrides, "budget.max_steps=1", "logger=[]", "run_dir=run")
        file = record.folder / "config.yaml"
        file.write_text(file.read_text().replace("clip_norm: 1.0", "clip_norm: 2.0"))
        found = check(RunFolder(record)).causes
        assert Cause("config", "trainer.clip_norm", 1.0, 2.0) in found
        assert [cause.what for cause in found if cause.kind == "edited"] == ["config.yaml"]


class TestVerdict:
    """Of a run and its repetition, here two copies of one."""

    def test_the_same_bits_elsewhere_are_identical_too(self, copy, finished):
        verdict = judge(RunFolder(RunRecord.load(copy)), ELSEWHERE, finished)
        assert verdict.verdict == "identical"
        assert verdict.because.endswith("bit for bit, even in other surroundings (environment)")
        assert verdict.causes == [CPU]

    def test_other_bits_in_the_same_surroundings(self, copy, finished):
        verdict = judge(other_course(copy), NOTHING, finished)
        assert verdict.verdict == "different"
        assert verdict.because == "the same code, packages and machine gave other bits"
        assert (verdict.fork.step, verdict.fork.same_until) == (4, 2)
        assert "lora_A" in verdict.fork.tensor
        assert f"after step 4 (the same up to 2), in {verdict.fork.tensor}" in verdict.text()

    @pytest.mark.parametrize(("off", "found"), [(0.4 * SPREAD, "equivalent"), (1.6 * SPREAD, "different")])
    def test_other_bits_elsewhere_are_judged_by_the_scores(self, copy, finished, off, found):
        other_course(copy)
        folder = change(copy, lambda record: score(record, "test", "entity_f1").update(value=off + f1_on_test(record)))
        assert judge(folder, ELSEWHERE, finished).verdict == found
        assert judge(folder, ELSEWHERE, finished, spread=0.001).verdict == "different"
        assert judge(folder, ELSEWHERE, finished, spread=0.1).verdict == "equivalent"

    @pytest.mark.slow
    @pytest.mark.parametrize(("again", "found"), [(None, "equivalent"), (0.5, "different")])
    def test_a_score_that_is_no_number_is_near_another_such_alone(self, copy, finished, tmp_path, again, found):
        other_course(copy)
        folder = change(copy, lambda record: score(record, "test", "entity_f1").update(value=None))
        repeated = Path(shutil.copytree(finished.folder, tmp_path / "again"))
        repetition = change(repeated, lambda record: score(record, "test", "entity_f1").update(value=again)).record
        for seed in (1, 2, 3):  # one of them without a number says nothing of the range
            beside = Path(shutil.copytree(finished.folder, f"runs/mine/seed{seed}"))
            config = (beside / "config.yaml").read_text()
            (beside / "config.yaml").write_text(config.replace("\nseed: 0\n", f"\nseed: {seed}\n"))
        change(beside, lambda record: score(record, "test", "entity_f1").update(value=None))
        verdict = judge(folder, ELSEWHERE, repetition)
        assert verdict.verdict == found
        assert {score.allowed for score in verdict.scores} == {SPREAD}

    @pytest.mark.parametrize(
        ("name", "allowed", "of"),
        [
            ("pearson", 0.01, "the largest possible pearson"),
            ("bleu", 1.0, "the largest possible bleu"),
            ("mae", 0.03, "the mae itself"),
        ],
    )
    def test_how_near_depends_on_the_unit_of_the_score(self, copy, finished, tmp_path, name, allowed, of):
        def rename(record):
            record["selection"]["metric"] = name
            for split in ("validation", "test"):
                score(record, split, "entity_f1").update(name=name, value=3.0)

        other_course(copy)
        folder = change(copy, rename)
        again = change(Path(shutil.copytree(finished.folder, tmp_path / "again")), rename).record
        verdict = judge(folder, ELSEWHERE, again)
        assert [each.allowed for each in verdict.scores] == [pytest.approx(allowed)] * 2
        assert verdict.allowed_from.startswith(f"0.01 of {of}: fewer than 3 runs")

    @pytest.mark.parametrize("spread", [-0.1, float("nan"), float("inf")])
    def test_a_spread_that_is_none_is_refused_before_the_training(self, finished, spread):
        with pytest.raises(UserError, match="--spread"):
            reproduce(finished.folder, spread=spread)

    def test_what_was_known_not_to_repeat_is_judged_by_the_scores(self, copy, finished):
        other_course(copy)
        folder = change(copy, lambda record: record["environment"].update(nondeterministic_parts=["atomic additions"]))
        verdict = judge(folder, NOTHING, finished)
        assert verdict.verdict == "equivalent"
        assert "atomic additions" in verdict.because

    def test_batches_that_were_computed_in_pieces_excuse_other_bits(self, copy, finished):
        other_course(copy)
        event = {"event": "out of memory", "stage": "training", "examples": 8, "positions": 96}
        verdict = judge(change(copy, lambda record: record["history"].append(event)), NOTHING, finished)
        assert verdict.verdict == "equivalent"
        assert Cause("environment", "batches too large for memory", "training, 96 positions", None) in verdict.causes

    @pytest.mark.slow
    def test_pieces_of_both_explain_nothing(self, copy, run_tiny, small_memory):
        record = run_tiny("budget.max_steps=6", *small_memory("backward"), "run_dir=pieces")
        verdict = reproduce("pieces", allow=["small_memory"])
        assert [event for event in record.data["history"] if event["event"] == "out of memory"]
        assert (verdict.verdict, verdict.causes) == ("identical", [])

    @pytest.mark.slow
    def test_the_runs_beside_it_that_differ_in_the_seed_alone_say_what_is_near(self, copy, finished):
        other_course(copy)
        for seed in (0, 1, 2, 3):  # of 0 there is another one: it says nothing of other seeds
            beside = Path(shutil.copytree(finished.folder, f"runs/mine/seed{seed}"))
            config = (beside / "config.yaml").read_text()
            (beside / "config.yaml").write_text(config.replace("\nseed: 0\n", f"\nseed: {seed}\n"))
            change(beside, lambda record, seed=seed: score(record, "test", "entity_f1").update(value=0.5 + seed / 32))
        Path("runs/mine/broken").mkdir()
        Path("runs/mine/broken/record.json").write_text("{")
        verdict = judge(RunFolder(RunRecord.load(copy)), ELSEWHERE, finished)
        assert {score.split: score.allowed for score in verdict.scores} == {"validation": 0, "test": 0.0625}
        assert verdict.allowed_from == "the range over the 3 runs beside it that differ in the seed alone"
        shutil.rmtree("runs/mine/seed3")
        verdict = judge(RunFolder(RunRecord.load(copy)), ELSEWHERE, finished)
        assert {score.allowed for score in verdict.scores} == {SPREAD}

    @pytest.mark.parametrize("causes", [[], [CPU]])
    def test_the_same_course_excuses_nothing(self, copy, finished, causes):
        folder = change(copy, lambda record: score(record, "test", "loss").update(value=0.125))
        verdict = judge(folder, Findings(causes, []), finished)
        assert verdict.verdict == "different"
        assert "took the same course to the last bit" in verdict.because
        assert [cause.what for cause in verdict.causes if cause.kind == "result"] == ["test loss"]

    @pytest.mark.parametrize(
        ("edit", "what"),
        [
            (lambda r: r["method"].update(trainable_parameters=1), "record.json: method.trainable_parameters"),
            (lambda r: r["cost"].update(steps=1), "record.json: cost.steps"),
            (lambda r: r["data"]["splits"]["train"].update(rows=1), "record.json: data.splits.train.rows"),
            (lambda r: r["metrics"].remove(score(r, "test", "loss")), "test loss"),
            (lambda r: r["selection"].update(epoch=99), "record.json: selection.epoch"),
        ],
    )
    def test_a_fact_that_does_not_follow_from_the_training(self, copy, finished, edit, what):
        verdict = judge(change(copy, edit), NOTHING, finished)
        assert verdict.verdict == "different"
        assert [cause.what for cause in verdict.causes] == [what]

    def test_runs_without_a_trail_are_judged_by_what_they_left(self, copy, finished):
        (copy / "trail.jsonl").unlink()
        without = lambda r: r.update(files=[f for f in r["files"] if f["path"] != "trail.jsonl"])  # noqa: E731
        assert judge(change(copy, without), NOTHING, finished).verdict == "identical"
        folder = change(copy, lambda record: score(record, "test", "loss").update(value=0.125))
        assert judge(folder, NOTHING, finished).verdict == "different"

    def test_a_trail_that_is_no_trail(self, copy, finished):
        verdict = judge(rewrite(copy, "trail.jsonl", "this is\nno trail\n"), NOTHING, finished)
        assert (verdict.verdict, verdict.fork) == ("different", None)
        assert [cause.what for cause in verdict.causes] == ["trail.jsonl"]

    def test_the_gravest_cause_comes_first(self, copy):
        causes = [CPU, Cause("edited", "x", 1, 2), Cause("data", "y", 1, 2)]
        verdict = judge(RunFolder(RunRecord.load(copy)), Findings(causes, []), None)
        assert (verdict.verdict, [cause.kind for cause in verdict.causes]) == (
            "not comparable",
            ["data", "edited", "environment"],
        )

    def test_many_causes_are_cut_in_the_text_only(self, copy):
        causes = [Cause("packages", f"package{n}", "1", None) for n in range(40)]
        verdict = judge(RunFolder(RunRecord.load(copy)), Findings(causes, []), None)
        assert "packages: and 37 more" in verdict.text()
        assert "packages: package0: 1 -> nothing" in verdict.text()
        assert len(verdict.document()["causes"]) == 40


def f1_on_test(record: dict[str, Any]) -> float:
    return float(score(record, "test", "entity_f1")["value"])


class TestPredictionsOfAnOlderVersion:
    def test_what_they_say_is_the_same(self, finished, copy):
        verdict = judge(as_before(copy), NOTHING, finished)
        assert (verdict.verdict, verdict.causes) == ("identical", [])

    @pytest.mark.parametrize(
        "edit",
        [
            lambda row: row["predicted"].__setitem__(0, "B-ORG"),
            lambda row: row["probability"].__setitem__(0, 0.5),
            lambda row: row.update(id=f"{row['id']}0"),
            lambda row: row.update(more="than is there"),
        ],
        ids=["tag", "probability", "id", "key"],
    )
    def test_what_they_say_is_not(self, finished, copy, edit):
        verdict = judge(as_before(copy, edit), NOTHING, finished)
        assert verdict.verdict == "different"
        assert {"predictions/validation.jsonl", "predictions/test.jsonl"} <= {cause.what for cause in verdict.causes}

    def test_they_are_gone(self, finished, copy):
        folder = as_before(copy)
        (copy / "predictions" / "test.jsonl").unlink()
        assert "predictions/test.jsonl" in {cause.what for cause in judge(folder, NOTHING, finished).causes}

    @pytest.mark.slow
    def test_they_are_scored(self, copy):
        assert check(as_before(copy)).causes == []
