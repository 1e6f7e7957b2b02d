from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peftlab.errors import DataError
from peftlab.serving.observing import reference as references
from peftlab.serving.observing.reference import file_of, kept, reference


@dataclass
class StandIn:
    """Models of which one takes what `takes` says, and answers with `says`."""

    folder: Path
    takes: Any = str
    says: Any = None
    generates: bool = False
    computed: int = 0

    def card(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, identity="ab12", folder=self.folder, generates=self.generates)

    def read(self, name: str, one: Any) -> SimpleNamespace:
        if not (isinstance(one, self.takes) if isinstance(self.takes, type) else self.takes(one)):
            raise DataError("it is another one")
        return SimpleNamespace(tokens=len(str(one)), unknown=str(one).count("?"), one=one)

    def answers(self, queries: list[SimpleNamespace]) -> list[Any]:
        self.computed += len(queries)
        return [self.says(query.one) for query in queries]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(references, "cache_root", lambda: tmp_path / "cache")


def run(tmp_path: Path, inputs: list[Any]) -> Path:
    file = tmp_path / "run" / "predictions" / "validation.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps({"id": str(n), "input": one}) + "\n" for n, one in enumerate(inputs)))
    return tmp_path / "run"


def label(one: Any) -> Any:
    if one == "refuse":
        return SimpleNamespace(reason="a refusal is no dict")
    return {"predicted": "good" if "g" in str(one) else "bad", "probability": 0.9}


def test_it_is_computed_once_and_holds_no_text(tmp_path):
    models = StandIn(run(tmp_path, ["a good text?"] * 150 + ["a text"] * 50 + ["refuse"]), says=label)
    made = reference(models, "m")
    assert made.bins["labels"][:2] == ("bad", "good")
    assert made.counts[:, made._places["labels"]].sum(0).tolist() == [50, 150, 0]
    assert made.counts[:, made._places["unknown"]].sum(0)[1] == 150
    assert len(made.counts) == 200
    assert models.computed == 201
    again = reference(models, "m")
    assert models.computed == 201
    assert (again.counts == made.counts).all()
    assert (kept("ab12").counts == made.counts).all()
    assert "text" not in file_of("ab12").read_text(encoding="utf-8")


def mask(kinds=("email", "phone"), with_="tag", regions=("US", "DE"), names=None) -> SimpleNamespace:
    """Return what of a masker decides what inputs look like."""
    return SimpleNamespace(kinds=kinds, with_=with_, regions=regions, names=names)


def test_each_way_to_mask_inputs_has_its_own(tmp_path, monkeypatch):
    models = StandIn(run(tmp_path, ["a text"] * 100), says=label)
    plain = reference(models, "m")
    models.says = lambda one: {"predicted": "good", "probability": 0.9}  # as with other inputs
    masked = reference(models, "m", mask())
    assert models.computed == 200
    assert (kept("ab12").bins, kept("ab12", mask()).bins) == (plain.bins, masked.bins)
    assert plain.bins != masked.bins
    ways = [mask(), mask(kinds=("email",)), mask(regions=("DE",)), mask(with_="refuse"), mask(with_="surrogate")]
    ways += [mask(names=SimpleNamespace(digest=digest)) for digest in ("of a run", "of another")]
    assert len({file_of("ab12", one) for one in (None, *ways)}) == 8
    monkeypatch.setattr(references, "LENGTHS", references.LENGTHS[1:])  # as another version of the package
    assert kept("ab12") is None


def test_inputs_that_predictions_keep_without_names_are_read(tmp_path):
    for names in (("question", "context"), ("text", "text_pair")):
        folder = run(tmp_path / names[0], [["a", "b"]] * 120)
        models = StandIn(folder, lambda asked, names=names: asked == dict(zip(names, "ab", strict=True)), label)
        file_of("ab12").unlink(missing_ok=True)
        assert len(reference(models, "m").counts) == 120


def test_numbers_have_ranges_and_texts_that_are_written_have_lengths_alone(tmp_path):
    folder = run(tmp_path, [f"{number}" for number in range(200)])
    made = reference(StandIn(folder, says=lambda one: {"predicted": float(one)}), "m")
    assert len(made.ranges) == 9
    assert made.counts[:, made._places["labels"]].sum(0).tolist() == [20] * 10 + [0]
    file_of("ab12").unlink()
    models = StandIn(folder, generates=True)
    made = reference(models, "m")
    assert models.computed == 0
    assert made.bins["labels"] == ()
    assert set(made.limits(100)) == {"lengths", "unknown"}


def test_too_few_inputs_and_a_damaged_file_are_no_reference(tmp_path, caplog):
    assert reference(StandIn(run(tmp_path, ["x"] * 99), says=label), "m") is None
    assert "too few" in caplog.text
    assert reference(StandIn(tmp_path / "none", says=label), "m") is None
    file_of("ab12").write_text('{"bins": {}}', encoding="utf-8")
    assert kept("ab12") is None


def test_of_many_inputs_some_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(references, "MOST_INPUTS", 130)
    models = StandIn(run(tmp_path, [f"{number}g" for number in range(400)]), says=label)
    assert len(reference(models, "m").counts) == 130
