"""Whatever is changed in a run folder is found by reading it, or said to be unverified; no honest run is accused."""

from __future__ import annotations

import copy as copying
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from peftlab.errors import UserError
from peftlab.reading.plain_yaml import dump
from peftlab.runs.folder import RunFolder, read_config
from peftlab.runs.identity import identity, run_id_of
from peftlab.runs.record import RunRecord
from peftlab.storage.digests import file_sha256
from peftlab.use import check as run_check
from peftlab.use.check import check
from peftlab.use.claims import NOT_READABLE, Findings
from peftlab.use.reproduce import judge

Record = dict[str, Any]

UNKNOWABLE = ("log.txt", ".lock", "record.json")
"""Files that no digest is kept of."""


@pytest.fixture
def copy(finished) -> Path:
    return Path(shutil.copytree(finished.folder, "run"))


def of(folder: Path) -> RunFolder:
    return RunFolder(RunRecord.load(folder))


def findings(folder: Path) -> Findings:
    return check(of(folder))


def read(folder: Path) -> Record:
    return json.loads((folder / "record.json").read_text())


def write(folder: Path, record: Record) -> None:
    (folder / "record.json").write_text(json.dumps(record))


def change(folder: Path, edit: Callable[[Record], object]) -> None:
    record = read(folder)
    edit(record)
    write(folder, record)


def seal(folder: Path) -> None:
    """Put right every digest that a change has made wrong, as a better forger does."""
    record = read(folder)
    for file in record["files"]:
        if (folder / file["path"]).is_file():
            path = folder / file["path"]
            file |= {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    known = record["identity"]
    record["identity"] = identity(read_config(folder), known["data_sha256"], known["weights_sha256"])
    record["run_id"] = run_id_of(record["identity"])
    write(folder, record)


def score(record: Record, split: str, name: str) -> Record:
    (one,) = [score for score in record["metrics"] if (score["split"], score["name"]) == (split, name)]
    return one


def predicted(folder: Path, split: str, edit: Callable[[Record], object]) -> None:
    """Edit the predictions of a split, and give the record the scores that follow from them."""
    file = folder / "predictions" / f"{split}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        edit(row)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    spec = run_check.validate(read_config(folder))
    spec.task.learn_labels({"train": []}, spec.data.labels)
    scores = spec.task.scorer.details(spec.task.scorer.total(rows))
    change(folder, lambda r: [score(r, split, name).update(value=value) for name, value in scores.items()])
    csv = folder / "metrics.csv"
    header, *lines = [line.split(",") for line in csv.read_text().splitlines()]
    for place, column in enumerate(header):
        if column.startswith(f"{split}/") and column.removeprefix(f"{split}/") in scores:
            last = [line for line in lines if line[place]][-1]
            last[place] = repr(scores[column.removeprefix(f"{split}/")])
    csv.write_text("".join(",".join(line) + "\n" for line in [header, *lines]))


def to_gold(row: Record) -> None:
    row["predicted"], row["predicted_entities"] = row["gold"], row["gold_entities"]


def surely_to_gold(row: Record) -> None:
    """As `to_gold`, with probabilities that go with it."""
    to_gold(row)
    for tags, tag in zip(row["probabilities"], row["gold"], strict=True):
        best = max(tags, key=tags.__getitem__)
        tags[best], tags[tag] = tags[tag], tags[best]


class TestEveryEntry:
    """The contract: no entry of the record, and no file of the run, can be changed without a word."""

    @pytest.fixture
    def once(self, monkeypatch) -> Callable[..., None]:
        """Have functions of a module give their first result for ever."""

        def once_(module: Any, *names: str) -> None:
            for name in names:
                monkeypatch.setattr(module, name, first_of(getattr(module, name)))

        once_(run_check, "code_state", "installed_packages", "surroundings")
        once_(run_check.evidence, "prepared", "gather")  # it takes nothing from the record
        return once_

    @pytest.mark.slow
    @pytest.mark.parametrize("every", [7, 1])
    def test_of_the_record(self, copy, once, every):
        once(run_check, "here", "validate")
        once(run_check.backbone, "fetch")
        once(RunFolder, "read_config")
        record = read(copy)
        assert findings(copy).causes == []
        silent = []
        for path, value in list(changes(record, ()))[::every]:
            changed = with_value(record, path, value)
            write(copy, changed)
            try:
                found = findings(copy)
            except UserError:  # it is no record any more, and whoever asks is told so
                continue
            if not found.causes:
                silent.append(path)
                assert is_unverified(changed, path, found.unverified), path
        assert {named(record, path) for path in silent if path[:2] != ("cost", "memory")} <= {
            *("command", "overrides", "environment.threads", "environment.openmp_wait"),
            *("cost.wall_seconds", "cost.peak_memory_gib", "cost.train_flops", "cost.energy_joules"),
            *("cost.token_share", "cost.shapes"),
        }

    @pytest.mark.slow
    def test_of_the_files(self, copy, once):
        for path in sorted(path for path in copy.rglob("*") if path.is_file() and path.name not in UNKNOWABLE):
            before = path.read_bytes()
            path.unlink()
            assert findings(copy).causes, f"{path} is gone"
            path.write_bytes(before + b"\n")
            assert findings(copy).causes, f"{path} is longer"
            path.write_bytes(before)
        assert findings(copy).causes == []


def first_of(function: Callable[..., Any]) -> Callable[..., Any]:
    results: list[Any] = []

    def call(*arguments: Any, **options: Any) -> Any:
        results[:] = results or [function(*arguments, **options)]
        return results[0]

    return call


def changes(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every place in `value` with something else to stand there."""
    match value:
        case dict():
            if value and path:
                yield path, {}
            for key, item in value.items():
                yield from changes(item, (*path, key))
        case list():
            yield path, value[:-1] if value else ["x"]
            yield path, [*value, copying.deepcopy(value[-1]) if value else "y"]
            for number, item in enumerate(value):
                yield from changes(item, (*path, number))
        case bool():
            yield path, not value
        case int():
            yield path, value + 1
        case float():
            yield path, value * 1.01 + 0.001
        case str():
            yield path, f"{value}x"
        case None:
            yield path, "x"


def with_value(record: Record, path: tuple[Any, ...], value: Any) -> Record:
    changed = copying.deepcopy(record)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return changed


def named(record: Record, path: tuple[Any, ...]) -> str:
    """Return what the table of what cannot be known calls an entry: its section and key."""
    return ".".join(str(key) for key in path if not isinstance(key, int))


def is_unverified(record: Record, path: tuple[Any, ...], unverified: list[str]) -> bool:
    return any(pattern.replace(".*", "") == named(record, path) for pattern in unverified)


ROW_6: dict[str, Callable[[Path], object]] = {}
"""What may be done to a run, by name; `others` is another run of the same kind."""


def case(edit: Callable[[Path], object]) -> Callable[[Path], object]:
    ROW_6[edit.__name__] = edit
    return edit


@case
def a_test_score_and_no_predictions(folder):
    change(folder, lambda r: score(r, "test", "entity_f1").update(value=0.99))
    (folder / "predictions/test.jsonl").unlink()


@case
def no_predictions_and_a_score_more(folder):
    shutil.rmtree(folder / "predictions")
    change(folder, lambda r: r["metrics"].append({**score(r, "test", "entity_f1"), "name": "accuracy"}))


@case
def the_test_loss(folder):
    change(folder, lambda r: score(r, "test", "loss").update(value=0.01))


@case
def predictions_scores_and_digests(folder):
    predicted(folder, "test", to_gold)
    seal(folder)


@case
def predictions_with_their_probabilities(folder):
    predicted(folder, "test", surely_to_gold)
    seal(folder)


@case
def invented_examples(folder):
    file = folder / "predictions/test.jsonl"
    row = json.loads(file.read_text().splitlines()[0])
    more = [row | {"id": f"test:{n}", "predicted": row["gold"]} for n in (16, 17, 18)]
    file.write_text(file.read_text() + "".join(json.dumps(one) + "\n" for one in more))
    predicted(folder, "test", lambda row: None)
    change(folder, lambda r: r["data"]["splits"]["test"].update(rows=19))
    seal(folder)


@case
def other_gold(folder):
    predicted(folder, "validation", lambda row: row.update(gold=row["predicted"]))
    change(folder, lambda r: r["selection"].update(value=score(r, "validation", "entity_f1")["value"]))
    seal(folder)


@case
def groups_that_the_data_does_not_have(folder):
    predicted(folder, "test", lambda row: row.update(group="one for all"))
    seal(folder)


@case
def no_scores(folder):
    change(folder, lambda r: r.update(metrics=[]))


@case
def no_files_and_another_adapter(folder):
    other_adapter(folder)
    change(folder, lambda r: r.update(files=[]))


@case
def another_adapter_and_its_digest(folder):
    other_adapter(folder)
    seal(folder)


@case
def another_adapter_and_best_checkpoint(folder):
    other_adapter(folder)
    (folder / "checkpoints/best.safetensors").unlink()
    change(folder, lambda r: r.update(files=[f for f in r["files"] if f["path"] != "checkpoints/best.safetensors"]))
    seal(folder)


@case
def the_strength_of_the_adapter(folder):
    file = folder / "adapter/adapter_config.json"
    file.write_text(file.read_text().replace('"lora_alpha": 16', '"lora_alpha": 64'))
    seal(folder)


@case
def few_trained_parameters(folder):
    change(folder, lambda r: r["method"].update(trainable_parameters=100))


@case
def the_cost(folder):
    change(folder, lambda r: r["cost"].update(steps=6, epochs=1.0))


@case
def the_throughput(folder):
    change(folder, lambda r: r["cost"].update(train_seconds=r["cost"]["train_seconds"] / 2))


@case
def the_history(folder):
    change(folder, lambda r: r["history"][2].update(entity_f1=0.5))


@case
def a_validation_less(folder):
    change(folder, lambda r: r["history"].pop(1))


@case
def the_overlap(folder):
    change(folder, lambda r: r["data"].update(train_test_overlap=0))


@case
def the_rows(folder):
    change(folder, lambda r: r["data"]["splits"]["train"].update(rows=48000))


@case
def the_licence(folder):
    change(folder, lambda r: r["data"].update(licence="CC0"))


@case
def a_split_less(folder):
    change(folder, lambda r: r["data"]["splits"].pop("test"))


@case
def interrupted_and_called_completed(folder):
    shutil.rmtree(folder / "adapter")
    shutil.rmtree(folder / "predictions")

    def edit(record):
        record["metrics"] = []
        record["files"] = [f for f in record["files"] if not f["path"].startswith(("adapter", "predictions"))]
        record["method"]["adapter_bytes"] = None

    change(folder, edit)


@case
def another_best_checkpoint(folder):
    best = folder / "checkpoints/best.safetensors"
    save_file({name: tensor * 2 for name, tensor in load_file(best).items()}, best, metadata={"format": "pt"})
    change(folder, lambda r: r["selection"].update(sha256=file_sha256(best)))
    seal(folder)


@case
def the_steps_of_the_trail(folder):
    file = folder / "trail.jsonl"
    file.write_text("".join(line + "\n" for line in file.read_text().splitlines() if '"step": 8,' not in line))
    seal(folder)


@case
def what_excuses_other_bits(folder):
    parts = ["atomic additions"]
    change(folder, lambda r: r["environment"].update(deterministic=False, nondeterministic_parts=parts))


@case
def times_that_run_backwards(folder):
    change(folder, lambda r: r.update(ended_at="2001-01-01T00:00:00.000+00:00"))


def other_adapter(folder: Path) -> None:
    file = folder / "adapter/adapter_model.safetensors"
    save_file({name: -tensor for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})


class TestTampered:
    @pytest.mark.one_in(3, "exhaustive")
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ROW_6)
    def test_it_is_found(self, copy, name):
        ROW_6[name](copy)
        found = findings(copy)
        assert found.causes
        verdict = judge(of(copy), found, None)
        assert (verdict.verdict, verdict.reproduced) == ("different", False)

    @pytest.mark.slow
    def test_what_nothing_tells_of_is_said(self, copy):
        verdict = judge(of(copy), findings(copy), None)
        assert set(verdict.unverified) == {*NOT_READABLE}
        assert "a consistent forgery cannot be told from a run by reading" in verdict.text()
        assert verdict.document()["unverified"] == verdict.unverified


class TestHonest:
    def test_a_run_of_an_older_version_is_not_accused(self, copy):
        """It has no digest of its best checkpoint, and of the labels no file."""
        (copy / "adapter/labels.json").unlink()

        def older(record):
            del record["selection"]["sha256"]
            record["files"] = [file for file in record["files"] if file["path"] != "adapter/labels.json"]
            record["code"]["commit"] = "0" * 40

        change(copy, older)
        found = findings(copy)
        assert {cause.kind for cause in found.causes} == {"code"}
        assert {"selection.sha256", "adapter/labels.json"} <= {*found.unverified}

    @pytest.mark.slow
    def test_a_run_whose_weights_are_gone_is_not_accused(self, copy):
        """As in an archive without weights: what they would show is not known."""
        for file in ("adapter/adapter_model.safetensors", "checkpoints/best.safetensors"):
            (copy / file).unlink()
        found = findings(copy)
        assert {cause.kind for cause in found.causes} == {"gone"}
        assert "method.adapter_bytes" in found.unverified

    def test_the_same_code_leaves_them(self, copy):
        change(copy, lambda r: r["selection"].pop("sha256"))
        (cause,) = findings(copy).causes
        assert (cause.kind, cause.what) == ("edited", "record.json: selection.sha256")

    @pytest.mark.slow
    def test_a_folder_that_was_moved_and_has_notes_in_it(self, copy):
        (copy / "notes.txt").write_text("mine")
        shutil.move(copy, "elsewhere")
        assert findings(Path("elsewhere")).causes == []

    @pytest.mark.slow
    @pytest.mark.one_in(3, "exhaustive")
    @pytest.mark.parametrize(
        "overrides",
        [
            ["peft=full", "budget.test=false", "trainer.accumulate=2", "task.class_weights=balanced"],
            ["budget.max_steps=13", "budget.validate_every=0.7", "task.selection.metric=loss", "logger=[]"],
            *(
                overrides
                for overrides in (
                    ["peft=head", "data.batch_tokens=96"],
                    ["peft=head", "model.dropout=0", "model.attention_dropout=0"],  # from kept activations
                    ["peft=prefix_tuning", "task.top_k=2"],
                    ["peft=adalora", "budget=overfit", "budget.max_steps=12"],
                    ["trainer.precision=bf16-mixed", "budget.train_examples=20", "budget.eval_examples=5"],
                    ["callbacks=[early_stopping]", "callbacks.early_stopping.patience=1", "optimizer.lr=1e-9"],
                    ["data.splits={train: train.txt, validation: 0.2, test: 0.2}", "data.duplicates=drop"],
                    ["data.labels=[ORG,PER,LOC]", "trainer.keep_every=4", "task.repair=discard", "data.max_tokens=8"],
                )
            ),
        ],
        ids=" ".join,
    )
    def test_runs(self, run_tiny, overrides):
        run_tiny("budget.max_steps=20", "run_dir=run", *overrides)
        assert findings(Path("run")).causes == []

    @pytest.mark.slow
    def test_a_classifier_with_groups(self, run_tiny, tiny_texts):
        lines = (tiny_texts / "train.csv").read_text().splitlines()
        Path("mine.csv").write_text(
            "\n".join([f"{lines[0]},who", *(f"{line},{n}" for n, line in enumerate(lines[1:]))])
        )
        data = ["task=classification", "data=csv", "data.path=mine.csv", "data.format.group=who"]
        run_tiny(*data, "budget.max_steps=8", "task.class_weights={hire: 2.0}", "run_dir=run")
        assert findings(Path("run")).causes == []
        rows = [json.loads(line) for line in Path("run/predictions/test.jsonl").read_text().splitlines()]
        assert all(row["group"].isdecimal() for row in rows)


def test_config_yaml_is_written_as_it_is_read(copy):
    """What `seal` and the test of configurations rely on."""
    assert (copy / "config.yaml").read_text() == dump(read_config(copy))
