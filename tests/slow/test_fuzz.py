"""The harness of ``experiments/reliability/fuzz.py``: inputs repeat, and the oracle notices what is spoilt."""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RELIABILITY = Path(__file__).parents[2] / "experiments" / "reliability"
INPUTS = 6
"""The studies try thousands."""

pytestmark = pytest.mark.slow


def campaign(folder: Path) -> tuple[str, dict[int, dict[str, Any]]]:
    """Try some inputs; return what is said, and the outcome of each without the time that it took."""
    arguments = ["--inputs", str(INPUTS), "--out", str(folder)]
    ended = subprocess.run(
        [sys.executable, str(RELIABILITY / "fuzz.py"), *arguments], capture_output=True, text=True, check=False
    )
    outcomes: dict[int, dict[str, Any]] = {}
    for line in (folder / "outcomes.jsonl").read_text().splitlines():
        with contextlib.suppress(ValueError):  # one that was cut off
            outcomes |= {json.loads(line)["seed"]: json.loads(line) | {"seconds": 0}}
    return ended.stdout + ended.stderr, outcomes


@pytest.mark.exhaustive
def test_a_campaign_that_was_killed_goes_on_and_its_inputs_come_out_as_before(tmp_path):
    said, first = campaign(tmp_path)
    assert f"{INPUTS} inputs in" in said
    assert list(first) == list(range(INPUTS))
    file = tmp_path / "outcomes.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:4]) + lines[4][:50])
    said, second = campaign(tmp_path)
    assert f"{INPUTS - sum(line != chr(10) for line in lines[:4])} inputs in" in said
    assert second == first


class Spoilt:
    """What is spoilt, by name: each takes pytest's monkeypatch."""

    @staticmethod
    def rows_lost(monkeypatch: pytest.MonkeyPatch) -> None:
        from peftlab.data.json_lines import JsonLines

        read = JsonLines._read_file
        monkeypatch.setattr(JsonLines, "_read_file", lambda self, split, path: read(self, split, path)[:-1])

    @staticmethod
    def texts_changed(monkeypatch: pytest.MonkeyPatch) -> None:
        from peftlab.tasks.inputs.texts import Text

        init = Text.__init__

        def shouted(self, id, text, *rest, **named):
            init(self, id, text.upper(), *rest, **named)

        monkeypatch.setattr(Text, "__init__", shouted)

    @staticmethod
    def labels_changed(monkeypatch: pytest.MonkeyPatch) -> None:
        from peftlab.tasks.classification import Classification

        monkeypatch.setattr(Classification, "declared_labels", property(lambda self: [x + "!" for x in self.labels]))

    @staticmethod
    def evaluate_differs_from_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            "peftlab.use.evaluate._recorded",
            lambda run: {(s, n, run.spec.task.scorer.name): 2.0 for s in ("test",) for n in SCORES},
        )

    @staticmethod
    def predictions_lost(monkeypatch: pytest.MonkeyPatch) -> None:
        from peftlab.use.finished import FinishedRun

        predict = FinishedRun.predict
        monkeypatch.setattr(FinishedRun, "predict", lambda self, texts: predict(self, texts)[:3])

    @staticmethod
    def valid_input_refused(monkeypatch: pytest.MonkeyPatch) -> None:
        from peftlab.errors import DataError

        def refuse(*_: Any) -> None:
            raise DataError("no")

        monkeypatch.setattr("peftlab.data.json_lines.JsonLines.read", refuse)

    @staticmethod
    def traceback(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("peftlab.use.finished.FinishedRun.evaluate", lambda self, *_, **__: 1 / 0)


SCORES = ("macro_f1", "accuracy")


@pytest.mark.parametrize(
    "name",
    [
        name if name == "labels_changed" else pytest.param(name, marks=pytest.mark.exhaustive)
        for name in vars(Spoilt)
        if not name.startswith("_")
    ],
)
def test_the_oracle_notices(name: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(RELIABILITY))
    inputs, oracle = importlib.import_module("fuzz_inputs"), importlib.import_module("fuzz_oracle")
    one = next(
        one
        for one in map(inputs.draw_input, range(1000))
        if one.kind == "json_lines"
        and not one.must
        and not one.may
        and "labels: plain" in one.odd
        and len(one.odd) == 1
    )

    def kinds(folder: str) -> set[str]:
        (tmp_path / folder).mkdir()
        return {kind for kind, _ in oracle.judged(one, tmp_path / folder, tiny_model).faults}

    kind = name.replace("_", " ")
    assert kind not in kinds("sound")
    getattr(Spoilt, name)(monkeypatch)
    assert kind in kinds("spoilt")
