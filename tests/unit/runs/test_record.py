"""The run record: its form, its identity, and that it is whole on disk whatever happens."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from peftlab.errors import ConfigError, UserError
from peftlab.runs import environment, record
from peftlab.runs import identity as identities
from peftlab.runs.environment import code_state
from peftlab.runs.identity import NOT_RESULT, asked_sha256, deciding_part, identity
from peftlab.runs.record import RunRecord
from peftlab.runs.start import claim_folder
from peftlab.storage.digests import canonical_json, sha256_of

CONFIG: dict[str, Any] = {
    "name": "ner_lora",
    "seed": 0,
    "federated": {"rounds": 3, "processes": 0},
    "privacy": {"epsilon": 8.0, "key_file": "mine/noise.key"},
    "sweep_dir": None,
    "run_dir": None,
    "existing": "auto",
    "allow": [],
    "notice": "not for clinical use",
    "logger": {"csv": {"flush": 10}},
    "regularizer": {
        "distil": {"teacher": "runs/teacher", "alpha": 0.5},
        "ewc": {"previous": ["runs/a"], "strength": 1.0},
        "lwf": {"previous": "runs/a", "alpha": 0.5},
    },
    "callbacks": {"progress": {"refresh": 10}, "curve": {"monitor": "f1"}, "ema": {"decay": 0.99}},
    "trainer": {
        "threads": 2,
        "precision": "bf16",
        "log_every": 10,
        "checkpoint_every": None,
        "keep_every": None,
        "trail_every": 200,
        "on_out_of_memory": "split",
        "devices": 2,
        "num_nodes": 1,
        "strategy": "ddp",
        "find_unused_parameters": False,
        "zero_stage": 2,
        "offload_optimizer": False,
        "accumulate": 4,
        "compile": False,
        "static_shapes": True,
        "cuda_graphs": "auto",
        "cudnn_attention": False,
        "cache_activations": True,
        "activation_cache_gib": 8,
    },
    "data": {
        "workers": 2,
        "path": "mine",
        "batch": 16,
        "clean": {"label_errors_from": "mine/errors.csv", "label_errors": "drop"},
        "mask_pii": {"with": "surrogate", "key": "mine/secret.key"},
        "replay": [{"run": "mine/run", "sha256": "e" * 64}],
        "labelled": {"path": "mine/labelled.jsonl", "sha256": "e" * 64},
        "source": {"path": "mine/corpus", "licence": "mine", "kind": "files"},
    },
    "model": {
        "attention": "eager",
        "hidden": 384,
        "path": "mine",
        "source": {"path": "mine/model", "licence": "mine", "kind": "files"},
    },
    "adapter": {"path": "mine/adapter", "sha256": "d" * 64},
    "budget": {"listed": {"path": "mine/list.json", "sha256": "e" * 64}},
    "peft": {"previous": {"path": "mine/adapter", "sha256": "e" * 64}},
    "semi": {"teacher": "mine/run", "unlabelled": "mine/texts.txt", "mu": 7},
    "out_of_scope": {"score": "energy", "far": {"path": "mine/far.txt", "sha256": "e" * 64}},
    "optimizer": {"lr": 3e-4, "betas": [0.9, 0.999]},
    "task": {
        "workers": "counts here",
        "progress": "and this",
        "source": {"path": "and this"},
        "top_k": None,
        "packing": "bfd",
        "forgetting": None,
    },
    "lists": [{"name": "part of a result here"}],
}
DATA = {"train": "a" * 64, "test": "b" * 64}
WEIGHTS = "c" * 64


def paths_to_leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) and value else None
    )
    if items is None:
        yield path
    else:
        for key, item in items:
            yield from paths_to_leaves(item, (*path, key))


def changed(path: tuple[Any, ...]) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    inner: Any = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = "changed"
    return config


def cannot_change_a_result(path: tuple[Any, ...]) -> bool:
    names = names_of(path)
    return any(names[: key.count(".") + 1] == tuple(key.split(".")) for key in NOT_RESULT)


def names_of(path: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a path without its places in lists, whose items all have the same keys."""
    return tuple(part for part in path if isinstance(part, str))


def start(folder: Path, **sections: Any) -> RunRecord:
    return RunRecord.start(
        folder,
        run_id="3f9c2a71d0be",
        name="ner_lora",
        command=["python", "-m", "train"],
        overrides=["seed=1"],
        identity=identity(CONFIG, DATA, WEIGHTS),
        **sections,
    )


class TestCanonicalJson:
    def test_one_text_for_equal_values(self) -> None:
        assert canonical_json({"b": [1, 2.5e-5], "a": None}) == '{"a":null,"b":[1,2.5e-05]}'
        assert canonical_json(0.1 + 0.2) == "0.30000000000000004"

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_refuses_what_json_lacks(self, value: float) -> None:
        with pytest.raises(ValueError):
            canonical_json({"a": [value]})

    def test_digest(self) -> None:
        assert sha256_of({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


class TestMasking:
    def test_text_for_people_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("APP_PASSWORD", "completed")
        monkeypatch.setenv("DB_PASSWORD", "validation")
        run = start(tmp_path, data={"name": "token=v2", "labels": ["password: reset", "password: change"]})
        run.data["overrides"] = ["+callbacks.x.api_key=opensesame"]
        run.data["command"] = ["train", "--token", "token=opensesame"]
        run.update(selection={"metric": "f1/password: reset", "split": "validation"})
        run.event("validated", step=1, **{"f1/password: reset": 0.5})
        run.event("activations_not_cached", reason="refused: password=opensesame")
        for label in ("password: reset", "password: change", "secret: santa", "cookie: consent", "token=expired"):
            run.add_metric(f"f1/{label}", "validation", 0.5, "best", "by label")
        (tmp_path / "token=v2.txt").write_text("")
        run.add_file("token=v2.txt")
        run.finish("completed")
        kept = RunRecord.load(tmp_path).data
        for section in ("status", "name", "data", "selection", "metrics", "files", "identity", "environment"):
            assert kept[section] == run.data[section]
        assert kept["history"][1]["f1/password: reset"] == 0.5
        assert kept["history"][2]["reason"] == "refused: password=****"
        assert "opensesame" not in (tmp_path / "record.json").read_text()
        run.finish("failed", ValueError("password: opensesame"))
        assert RunRecord.load(tmp_path).data["error"]["message"] == "password: ****"


class TestIdentity:
    def test_its_parts(self) -> None:
        found = identity(CONFIG, DATA, WEIGHTS)
        assert list(found) == ["sha256", "config_sha256", "data_sha256", "weights_sha256"]
        assert (found["data_sha256"], found["weights_sha256"]) == (DATA, WEIGHTS)
        assert identities.run_id_of(found) == found["sha256"][:12]

    def test_the_order_of_keys_does_not_matter(self) -> None:
        config = {key: CONFIG[key] for key in reversed(CONFIG)}
        assert identity(config, dict(reversed(DATA.items())), WEIGHTS) == identity(CONFIG, DATA, WEIGHTS)

    def test_every_key_counts_but_those_that_cannot_change_a_result(self) -> None:
        before = identity(CONFIG, DATA, WEIGHTS)
        for path in paths_to_leaves(CONFIG):
            same = identity(changed(path), DATA, WEIGHTS) == before
            assert same == cannot_change_a_result(path), path

    def test_the_same_run_elsewhere_and_shown_otherwise(self) -> None:
        here = {"name": "a", "run_dir": "a", "existing": "rerun", "allow": ["a"]}
        here |= {"logger": {}, "callbacks": {"progress": None}, "trainer": {"threads": 1, "log_every": 2}}
        here |= {"data": {"workers": 0, "path": "a", "source": {"path": "a", "licence": None}}}
        here |= {"model": {"path": "a", "source": {"path": "a", "licence": None}}}
        there = {"callbacks": {}, "trainer": {}, "data": {"source": {}}, "model": {"source": {}}}
        assert identity(here, DATA, WEIGHTS) == identity(there, DATA, WEIGHTS)

    def test_the_configuration_here_has_every_such_key(self) -> None:
        leaves = [names_of(path) for path in paths_to_leaves(CONFIG)]
        for key in NOT_RESULT:
            assert any(path[: key.count(".") + 1] == tuple(key.split(".")) for path in leaves), key

    def test_before_anything_is_read_locations_decide_too(self) -> None:
        moved = {**CONFIG, "data": {**CONFIG["data"], "path": "elsewhere"}}
        assert identity(moved, DATA, WEIGHTS) == identity(CONFIG, DATA, WEIGHTS)
        assert asked_sha256(moved) != asked_sha256(CONFIG) == asked_sha256(CONFIG | {"notice": None, "augment": {}})

    def test_a_missing_key_that_cannot_change_a_result(self) -> None:
        config = {key: value for key, value in CONFIG.items() if key not in NOT_RESULT}
        assert identity(config, DATA, WEIGHTS) == identity(CONFIG, DATA, WEIGHTS)

    @pytest.mark.parametrize(
        ("key", "neutral", "config"),
        [
            ("floor", 0, {"floor": 0}),
            ("nothing", None, {"nothing": None}),
            ("trainer.guess", "off", {"trainer": {**CONFIG["trainer"], "guess": "off"}}),
            ("data.source.half", [], {"data": {**CONFIG["data"], "source": {**CONFIG["data"]["source"], "half": []}}}),
            ("later", {"a": None, "b": 1}, {"later": {"b": 1, "a": None}}),
        ],
    )
    def test_a_key_added_later_counts_once_it_changes_what_runs_did(
        self, key: str, neutral: Any, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = identity(CONFIG, DATA, WEIGHTS)
        assert identity(CONFIG | config, DATA, WEIGHTS) != before
        monkeypatch.setattr(identities, "ADDED", {key: neutral})
        assert identity(CONFIG, DATA, WEIGHTS) == before
        assert identity(CONFIG | config, DATA, WEIGHTS) == before
        monkeypatch.setattr(identities, "ADDED", {key: "something else"})
        assert identity(CONFIG | config, DATA, WEIGHTS) != before

    def test_what_has_another_name_now_is_the_same_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        then = {
            "model": {"heads": 2, "source": {"_target_": "peftlab.sources.Old"}},
            "steps": [{"_target_": "peftlab.sources.Old", "a": 1}],
            "rank": 4,
        }
        now = {
            "model": {"source": {"_target_": "peftlab.storage.New"}},
            "steps": [{"_target_": "peftlab.storage.New", "a": 1}],
            "head": {"count": 2},
            "peft": {"r": 4},
        }
        before = identity(then, DATA, WEIGHTS)
        assert identity(now, DATA, WEIGHTS) != before
        names = {"peftlab.storage.New": "peftlab.sources.Old", "head.count": "model.heads", "peft.r": "rank"}
        monkeypatch.setattr(identities, "RENAMED", names)
        unchanged = copy.deepcopy(now)
        assert identity(now, DATA, WEIGHTS) == before == identity(then, DATA, WEIGHTS)
        assert identities.present_names(then) == now == unchanged

    def test_data_and_weights_count(self) -> None:
        ids = {
            identity(CONFIG, data, weights)["sha256"]
            for data, weights in [
                (DATA, WEIGHTS),
                (DATA | {"test": "d" * 64}, WEIGHTS),
                ({"train": DATA["test"], "test": DATA["train"]}, WEIGHTS),
                ({"train": DATA["train"]}, WEIGHTS),
                (DATA, "d" * 64),
            ]
        }
        assert len(ids) == 5

    def test_a_number_that_is_not_finite(self) -> None:
        config = CONFIG | {"optimizer": {"betas": [0.9, math.nan]}}
        with pytest.raises(ConfigError) as error:
            identity(config, DATA, WEIGHTS)
        assert str(error.value) == "'optimizer.betas.1' is nan: a number must be finite; use null for none."
        assert identity(CONFIG | {"logger": math.nan}, DATA, WEIGHTS) == identity(CONFIG, DATA, WEIGHTS)


class TestRunRecord:
    def test_keys_and_their_order(self, tmp_path: Path) -> None:
        start(tmp_path)
        data = json.loads((tmp_path / "record.json").read_text())
        assert " ".join(data) == (
            "schema_version run_id name status started_at ended_at command overrides identity code environment "
            "data method selection metrics cost history files error"
        )
        sections = {key: list(value) for key, value in data.items() if isinstance(value, dict)}
        assert {key: " ".join(names) for key, names in sections.items()} == {
            "identity": "sha256 config_sha256 data_sha256 weights_sha256",
            "code": "version commit dirty diff_sha256",
            "environment": "python packages_sha256 platform cpu isa threads openmp_wait accelerators devices num_nodes "
            "world_size strategy effective_batch_size precision deterministic nondeterministic_parts seeds",
            "data": "name splits labels train_test_overlap licence",
            "method": "name trainable_parameters total_parameters adapter_bytes",
            "selection": "metric split mode value epoch step sha256",
            "cost": "wall_seconds train_seconds steps epochs samples_per_second tokens_per_second peak_memory_gib "
            "train_flops energy_joules energy_counted",
        }

    def test_start(self, tmp_path: Path) -> None:
        started = start(tmp_path, code={"commit": "abc"}, data={"name": "conll2003"})
        data = RunRecord.load(tmp_path).data
        assert data == started.data
        assert (data["schema_version"], data["run_id"], data["status"]) == (1, "3f9c2a71d0be", "running")
        assert (data["command"], data["overrides"]) == (["python", "-m", "train"], ["seed=1"])
        assert data["identity"] == identity(CONFIG, DATA, WEIGHTS)
        assert (data["code"]["commit"], data["data"]["name"]) == ("abc", "conll2003")
        assert (data["ended_at"], data["error"], data["metrics"], data["files"]) == (None, None, [], [])
        assert [event["event"] for event in data["history"]] == ["started"]
        started_at = datetime.fromisoformat(data["started_at"])
        assert started_at.utcoffset() == timedelta(0)
        assert started_at <= datetime.now(UTC)

    def test_round_trip(self, tmp_path: Path) -> None:
        run = start(tmp_path)
        run.update(cost={"steps": 10}, selection={"metric": "entity_f1"})
        run.update(cost={"epochs": 1.5})
        run.event("evaluated", step=10, name="validation")
        run.add_metric("entity_f1", "test", 0.91, "best", "conll")
        run.update(data={"labels": ["Ärger", "喜"]})
        run.write()
        loaded = RunRecord.load(tmp_path / "record.json")
        assert loaded.folder == tmp_path
        assert loaded.data == run.data
        assert (loaded.data["cost"]["steps"], loaded.data["cost"]["epochs"]) == (10, 1.5)
        event = loaded.data["history"][1]
        assert (event["event"], event["step"], event["name"]) == ("evaluated", 10, "validation")
        loaded.event("seen")
        loaded.write()
        assert RunRecord.load(tmp_path).data == loaded.data

    @pytest.mark.parametrize("section", ["costs", "status", "metrics"])
    def test_update_knows_its_sections(self, tmp_path: Path, section: str) -> None:
        run = start(tmp_path)
        before = copy.deepcopy(run.data)
        with pytest.raises(TypeError, match=f"'{section}' is no section of the run record; those are identity, code"):
            run.update(cost={"steps": 1}, **{section: {"steps": 1}})
        assert run.data == before

    def test_scores_and_events_are_found_by_their_names(self, tmp_path: Path) -> None:
        run = start(tmp_path)
        run.add_metric("f1", "validation", 0.5, "best", "conll")
        run.add_metric("f1", "test", 0.6, "best", "conll")
        run.add_metric("loss", "test", math.nan, "best", "conll")
        run.event("validated", step=3)
        run.write()
        read = RunRecord.load(tmp_path)
        assert (read.score("test", "f1"), read.score("validation", "f1")) == (0.6, 0.5)
        assert (read.score("test", "loss"), read.score("test", "accuracy"), read.score("train", "f1")) == (None,) * 3
        assert [score["split"] for score in read.scores(name="f1")] == ["validation", "test"]
        assert [score["name"] for score in read.scores("test")] == ["f1", "loss"]
        assert len(read.scores()) == 3
        assert [event["event"] for event in read.events()] == ["started", "validated"]
        assert [event["step"] for event in read.events("validated", "resumed")] == [3]

    def test_what_a_resume_has_undone_is_no_part_of_the_course(self, tmp_path: Path) -> None:
        run = start(tmp_path)
        for step in (2, 4, 6):
            run.event("validated", step=step)
        assert [event["step"] for event in run.course("validated")] == [2, 4, 6]
        run.resume(step=4)
        run.event("validated", step=6)
        run.event("interrupted")
        assert [event["step"] for event in run.course("validated")] == [2, 4, 6]
        run.resume(step=0)
        assert run.course("validated") == []
        assert len(run.events("validated")) == 4

    def test_a_capability_has_a_section_of_its_own(self, tmp_path: Path) -> None:
        run = start(tmp_path)
        assert run.extensions == {}
        run.extend("privacy", {"epsilon": 3.0})
        run.extend("privacy", {"delta": 1e-5})
        run.write()
        assert RunRecord.load(tmp_path).extensions == {"privacy": {"epsilon": 3.0, "delta": 1e-5}}
        with pytest.raises(ValueError, match="'cost' is the record's own"):
            run.extend("cost", {"steps": 1})

    def test_a_metric_measured_again_replaces_the_first(self, tmp_path: Path) -> None:
        run = start(tmp_path)
        run.add_metric("f1", "test", 0.5, "best", "conll")
        run.add_metric("f1", "test", 0.6, "last", "conll")
        run.add_metric("f1", "test", 0.7, "best", "conll")
        assert [(metric["checkpoint"], metric["value"]) for metric in run.data["metrics"]] == [
            ("last", 0.6),
            ("best", 0.7),
        ]
        assert list(run.data["metrics"][0]) == ["name", "split", "value", "checkpoint", "scorer"]

    def test_files(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        (folder / "adapter").mkdir(parents=True)
        file = folder / "adapter" / "model.bin"
        file.write_bytes(b"one")
        run = start(folder)
        run.add_file(file)
        file.write_bytes(b"twelve")
        run.add_file("adapter/model.bin")
        assert run.data["files"] == [
            {"path": "adapter/model.bin", "bytes": 6, "sha256": hashlib.sha256(b"twelve").hexdigest()}
        ]
        (tmp_path / "outside").write_bytes(b"")
        with pytest.raises(ValueError):
            run.add_file(tmp_path / "outside")
        with pytest.raises(FileNotFoundError):
            run.add_file("missing")

    @pytest.mark.parametrize("status", ["completed", "failed", "interrupted", "pruned"])
    def test_finish(self, tmp_path: Path, status: Any) -> None:
        start(tmp_path).finish(status)
        data = RunRecord.load(tmp_path).data
        assert (data["status"], data["history"][-1]["event"], data["error"]) == (status, status, None)
        assert data["ended_at"] >= data["started_at"]

    @pytest.mark.parametrize("status", ["running", "done"])
    def test_finish_knows_how_runs_end(self, tmp_path: Path, status: Any) -> None:
        with pytest.raises(ValueError, match="completed, failed, interrupted, pruned, not as"):
            start(tmp_path).finish(status)
        assert RunRecord.load(tmp_path).data["status"] == "running"

    def test_the_error_of_a_failed_run(self, tmp_path: Path) -> None:
        run = start(tmp_path)
        try:
            raise RuntimeError("out of memory")
        except RuntimeError as error:
            run.finish("failed", error)
        described = RunRecord.load(tmp_path).data["error"]
        assert (described["type"], described["message"]) == ("RuntimeError", "out of memory")
        assert described["traceback_tail"].endswith("RuntimeError: out of memory")
        assert Path(__file__).name in described["traceback_tail"]

        run.finish("failed", UserError("mend this"))
        assert RunRecord.load(tmp_path).data["error"] == {"type": "UserError", "message": "mend this"}
        run.finish("failed", {"type": "Killed", "message": "signal 9"})
        assert RunRecord.load(tmp_path).data["error"] == {"type": "Killed", "message": "signal 9"}

    def test_resume(self, tmp_path: Path) -> None:
        start(tmp_path).finish("interrupted", KeyboardInterrupt())
        RunRecord.load(tmp_path).resume()
        data = RunRecord.load(tmp_path).data
        assert (data["status"], data["ended_at"], data["error"]) == ("running", None, None)
        assert [event["event"] for event in data["history"]] == ["started", "interrupted", "resumed"]

    def test_numbers_that_json_lacks_become_null(self, tmp_path: Path) -> None:
        run = start(tmp_path)
        run.add_metric("loss", "test", math.nan, "best", "mean")
        run.update(cost={"train_flops": math.inf})
        run.write()

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        data = json.loads((tmp_path / "record.json").read_text(), parse_constant=refuse)
        assert data["metrics"][0]["value"] is None
        assert data["cost"]["train_flops"] is None

    def test_an_argument_that_is_no_text(self, tmp_path: Path) -> None:
        run = start(tmp_path)
        run.data["overrides"] = [os.fsdecode(b"name=\xff")]
        run.write()
        assert RunRecord.load(tmp_path).data["overrides"] == ["name=\udcff"]


class TestWrite:
    @pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
    def test_a_crash_leaves_the_old_record_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        run = start(tmp_path)
        before = (tmp_path / "record.json").read_bytes()

        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(step, crash)
            with pytest.raises(KeyboardInterrupt):
                run.finish("completed")
        assert (tmp_path / "record.json").read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
        run.write()
        assert RunRecord.load(tmp_path).data["status"] == "completed"

    def test_a_value_that_json_lacks_leaves_the_old_record_whole(self, tmp_path: Path) -> None:
        run = start(tmp_path)
        before = (tmp_path / "record.json").read_bytes()
        run.update(method={"name": object()})
        with pytest.raises(TypeError):
            run.write()
        assert (tmp_path / "record.json").read_bytes() == before

    def test_bytes_reach_the_disk_before_the_name_does(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run = start(tmp_path)
        steps: list[str] = []
        real_fsync, real_replace = os.fsync, Path.replace

        def fsync(descriptor: int) -> None:
            steps.append("sync folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "sync file")
            real_fsync(descriptor)

        def replace(path: Path, target: Path) -> Path:
            steps.append(f"replace {target.name}")
            return real_replace(path, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", replace)
        run.write()
        assert steps == ["sync file", "replace record.json", "sync folder"]


class TestLoad:
    def test_an_older_schema_is_migrated_step_by_step(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        start(tmp_path)
        file = tmp_path / "record.json"
        before = file.read_bytes()

        def to_2(data: dict[str, Any]) -> dict[str, Any]:
            data["label"] = data.pop("name")
            return data

        def to_3(data: dict[str, Any]) -> dict[str, Any]:
            return data | {"label": data["label"].upper()}

        monkeypatch.setattr(record, "SCHEMA_VERSION", 3)
        monkeypatch.setattr(record, "MIGRATIONS", {1: to_2, 2: to_3})
        data = RunRecord.load(tmp_path).data
        assert (data["schema_version"], data["label"]) == (3, "NER_LORA")
        assert "name" not in data
        assert file.read_bytes() == before

    def test_every_older_schema_has_a_migration(self) -> None:
        assert list(record.MIGRATIONS) == list(range(1, record.SCHEMA_VERSION))

    def test_a_newer_schema(self, tmp_path: Path) -> None:
        run = start(tmp_path)
        run.data["schema_version"] = 2
        run.write()
        with pytest.raises(UserError) as error:
            RunRecord.load(tmp_path)
        assert str(error.value) == (
            f"'{tmp_path / 'record.json'}' has schema version 2, and this peftlab reads up to 1. "
            "Upgrade: `pip install --upgrade peftlab`."
        )

    def test_no_record(self, tmp_path: Path) -> None:
        with pytest.raises(UserError) as error:
            RunRecord.load(tmp_path)
        assert str(error.value) == (
            f"No run record at '{tmp_path / 'record.json'}'. Name a run folder, which holds a record.json."
        )

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b'{"schema_version": 1', "Expecting ',' delimiter"),
            (b"\xff", "can't decode byte 0xff"),
            (b"[1]", "it has no schema_version"),
            (b"{}", "it has no schema_version"),
            (b'{"schema_version": "1"}', "it has no schema_version"),
        ],
    )
    def test_no_record_in_the_file(self, tmp_path: Path, content: bytes, reason: str) -> None:
        (tmp_path / "record.json").write_bytes(content)
        with pytest.raises(UserError) as error:
            RunRecord.load(tmp_path)
        assert str(error.value).startswith(f"'{tmp_path / 'record.json'}' is not a run record: ")
        assert reason in str(error.value)


class TestClaimFolder:
    def test_takes_the_next_number(self, tmp_path: Path) -> None:
        names = [claim_folder(tmp_path / "runs" / "ner", "abc").name for _ in range(3)]
        assert names == ["abc", "abc-2", "abc-3"]
        assert {path.name for path in (tmp_path / "runs" / "ner").iterdir()} == set(names)

    def test_another_run_that_is_quicker_keeps_its_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = Path.mkdir

        def mkdir(path: Path, *arguments: Any, **options: Any) -> None:
            if path.name == "abc":  # the other run makes it in the last moment
                os.mkdir(path)
            real(path, *arguments, **options)

        monkeypatch.setattr(Path, "mkdir", mkdir)
        assert claim_folder(tmp_path, "abc").name == "abc-2"

    def test_many_at_once_get_one_each(self, tmp_path: Path) -> None:
        together = threading.Barrier(8, timeout=60)

        def claim(_: int) -> str:
            together.wait()
            return claim_folder(tmp_path / "runs", "abc").name

        with ThreadPoolExecutor(8) as pool:
            names = list(pool.map(claim, range(8)))
        assert sorted(names) == ["abc", *(f"abc-{number}" for number in range(2, 9))]

    def test_a_root_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError) as error:
            claim_folder(tmp_path / "file" / "runs", "abc")
        assert str(error.value).startswith(f"Cannot make the folder '{tmp_path / 'file' / 'runs'}' (Not a directory)")


class TestCodeState:
    @pytest.fixture
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A repository with one commit of a source tree."""
        root = tmp_path / "project"
        for name in ("src/peftlab/record.py", "conf/config.yaml"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("one\n")
        (root / ".gitignore").write_text("*.log\n")
        for key in [key for key in os.environ if key.startswith("GIT_")]:
            monkeypatch.delenv(key)
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
        (tmp_path / "gitconfig").write_text("[user]\n name = A\n email = a@example.org\n[commit]\n gpgsign = false\n")
        self.git(root, "init", "--quiet")
        self.git(root, "add", ".")
        self.git(root, "commit", "--quiet", "--message", "one")
        return root

    @staticmethod
    def git(root: Path, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    def test_clean(self, root: Path) -> None:
        state = code_state(root)
        assert list(state) == ["version", "commit", "dirty", "diff_sha256"]
        assert state["commit"] == self.git(root, "rev-parse", "HEAD")
        assert (state["dirty"], state["diff_sha256"]) == (False, None)

    def test_each_change_has_its_digest(self, root: Path) -> None:
        commit = code_state(root)["commit"]
        digests: list[str] = []

        def note() -> None:
            state = code_state(root)
            assert (state["commit"], state["dirty"]) == (commit, True)
            digests.append(state["diff_sha256"])

        (root / "conf/config.yaml").write_text("two\n")
        note()
        self.git(root, "add", ".")  # staged or not, the same difference
        note()
        (root / "conf/config.yaml").write_text("three\n")
        note()
        (root / "src/peftlab/new file.py").write_text("new\n")
        note()
        (root / "src/peftlab/new file.py").write_text("newer\n")
        note()
        (root / "src/peftlab/new file.py").rename(root / "src/peftlab/renamed.py")
        note()
        assert digests[0] == digests[1]
        assert len(set(digests)) == 5

    def test_files_that_are_no_code(self, root: Path) -> None:
        (root / "src/run.log").write_text("ignored by git")
        (root / "notes.txt").write_text("outside src/ and conf/")
        assert not code_state(root)["dirty"]

    def test_a_new_file_that_links_nowhere(self, root: Path) -> None:
        (root / "src/link.py").symlink_to("nowhere")
        assert code_state(root)["dirty"]

    def test_how_the_user_likes_differences_shown(self, root: Path, tmp_path: Path) -> None:
        (root / "conf/config.yaml").write_text("two\n")
        plain = code_state(root)["diff_sha256"]
        with (tmp_path / "gitconfig").open("a") as settings:
            settings.write("[diff]\n noprefix = true\n external = false\n context = 0\n[color]\n ui = always\n")
        assert code_state(root)["diff_sha256"] == plain

    def test_within_a_hook_of_another_repository(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clean = code_state(root)
        monkeypatch.setenv("GIT_DIR", str(root / "elsewhere"))
        monkeypatch.setenv("GIT_INDEX_FILE", str(root / "elsewhere" / "index"))
        assert code_state(root) == clean

    def test_no_checkout(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
        state = code_state(tmp_path)
        assert (state["commit"], state["dirty"], state["diff_sha256"]) == (None, False, None)

    def test_installed_inside_a_repository_of_the_users(self, root: Path) -> None:
        (root / "venv/src/peftlab").mkdir(parents=True)
        (root / "venv/src/peftlab/record.py").write_text("installed")
        assert code_state(root / "venv")["commit"] is None

    def test_no_git(self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        state = code_state(root)
        assert (state["commit"], state["dirty"], state["diff_sha256"]) == (None, False, None)


class TestEnvironment:
    def test_packages(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for folder, name, version in [
            ("first", "Some.Package_X", "1.0"),
            ("second", "some-package-x", "2.0"),
            ("second", "another", "3.0"),
            ("second/setuptools/_vendor", "copied", "4.0"),
        ]:
            metadata = tmp_path / folder / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
            metadata.parent.mkdir(parents=True)
            metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        path = [str(tmp_path / folder) for folder in ("first", "second", "second/setuptools/_vendor")]
        monkeypatch.setattr(sys, "path", path)
        assert environment.installed_packages() == ["another==3.0", "some-package-x==1.0"]
        assert environment.packages_text() == "another==3.0\nsome-package-x==1.0\n"

    def test_fills_its_section(self, tmp_path: Path) -> None:
        section = environment.environment(
            isa="AVX2",
            threads=2,
            openmp_wait="default",
            accelerators=[],
            devices=1,
            num_nodes=1,
            world_size=1,
            strategy="single_device",
            effective_batch_size=16,
            precision="bf16",
            deterministic=True,
            nondeterministic_parts=(),
            seeds={"global": 0},
        )
        run = start(tmp_path)
        assert list(section) == list(run.data["environment"])
        assert section["packages_sha256"] == hashlib.sha256(environment.packages_text().encode()).hexdigest()
        assert section["python"] == ".".join(map(str, sys.version_info[:3]))
        assert section["cpu"]
        assert (section["isa"], section["threads"], section["seeds"]) == ("AVX2", 2, {"global": 0})


@pytest.mark.slow
def test_the_room_imports_nothing_heavy() -> None:
    """What lists and compares runs is there at once."""
    heavy = {"torch", "transformers", "hydra", "lightning"}
    code = (
        "import sys, peftlab.runs.compare, peftlab.runs.environment, peftlab.runs.find, peftlab.runs.start\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(record.__file__).parents[2])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout == "[]\n"


def test_a_group_that_is_not_named_changes_no_identity():
    before = {"data": {"format": {"text": "auto"}}}
    assert deciding_part({"data": {"format": {"text": "auto", "group": None}}}) == deciding_part(before)
    assert deciding_part({"data": {"format": {"text": "auto", "group": "doc"}}}) != deciding_part(before)


class Walked(list):
    """A list that counts how often it is gone through."""

    times = 0

    def __iter__(self):
        Walked.times += 1
        return super().__iter__()


def test_scores_of_many_labels_are_added_at_once_as_one_by_one(tmp_path: Path) -> None:
    one, other = start(tmp_path / "one"), start(tmp_path / "other")
    scores = [{"f1": 0.5, "f1/a": 0.25, "loss": 1.0}, {"f1": 0.75, "f1/b": 0.0}]
    for each in scores:
        for name, value in each.items():
            one.add_metric(name, "test", value, "best", "a scorer")
        other.add_metrics(each, "test", "best", "a scorer")
        other.data["metrics"] = Walked(other.data["metrics"])
    assert other.data["metrics"] == one.data["metrics"]
    assert [(each["name"], each["value"]) for each in other.data["metrics"]] == [
        *(("f1/a", 0.25), ("loss", 1.0)),
        *(("f1", 0.75), ("f1/b", 0.0)),
    ]
    Walked.times = 0
    other.add_metrics({f"f1/{number}": 0.5 for number in range(100)}, "test", "best", "a scorer")
    assert Walked.times == 1
