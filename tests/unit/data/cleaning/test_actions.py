from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from peftlab.data.cleaning.actions import Cleaning, clean
from peftlab.data.cleaning.copies import Entry
from peftlab.data.cleaning.finding import Finding
from peftlab.data.cleaning.listing import text_of

ENTRIES = [
    Entry("train", "train:0", "the match was played on Saturday in Rome", "sports"),
    Entry("train", "train:1", "the match was played on Saturday in Rome", "sports"),
    Entry("train", "train:2", "The match was played on Saturday in Rome !", "sports"),
    Entry("train", "train:3", "shares fell in London", "business"),
    Entry("train", "train:4", "shares fell in London", "politics"),
    Entry("test", "test:0", "SHARES fell in London", "tech"),
    Entry("test", "test:1", "SHARES fell in London", "tech"),
]
IDS = {entry.id: entry.split for entry in ENTRIES}


def test_each_kind_has_its_action():
    chosen = Cleaning(duplicates="drop", near_duplicates="downweight", conflicts="report", weight=0.25)
    cleaned = clean(chosen, ENTRIES, IDS)
    assert cleaned.dropped == {"train:1": "duplicates"}
    assert cleaned.factors == {"train:2": 0.25}
    assert cleaned.counts == {
        "duplicates": {"action": "drop", "examples": 1},
        "conflicts": {"action": "report", "examples": 2},
        "near_duplicates": {"action": "downweight", "examples": 1},
    }


def test_dropping_wins_and_two_reasons_weigh_once():
    cleaned = clean(Cleaning(conflicts="downweight", leaks="downweight"), ENTRIES, IDS)
    assert cleaned.factors == {"train:3": 0.5, "train:4": 0.5}
    cleaned = clean(Cleaning(conflicts="drop", leaks="downweight"), ENTRIES, IDS)
    assert (cleaned.dropped, cleaned.factors) == ({"train:3": "conflicts", "train:4": "conflicts"}, {})


def test_label_errors_come_from_a_list(tmp_path: Path):
    listing = tmp_path / "errors.csv"
    listing.write_text(text_of([Finding("train", id, "label error", "", "") for id in ("train:0", "train:9")]))
    cleaning = Cleaning(label_errors="drop", label_errors_from=listing)
    cleaned = clean(cleaning, ENTRIES, {**IDS, "train:9": "train"})  # train:9 is in the fold that is held out
    assert cleaned.dropped == {"train:0": "label_errors"}


def test_a_list_in_the_home_folder_is_found(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for cleaning in (Cleaning(label_errors="drop", label_errors_from=name) for name in ("~/a.csv", tmp_path / "a.csv")):
        assert cleaning.label_errors_from == tmp_path / "a.csv"
        assert cleaning.resolved()["label_errors_from"] == str(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "names no action"),
        ({"label_errors": "drop"}, "belong together"),
        ({"label_errors_from": "a.csv", "duplicates": "drop"}, "belong together"),
        ({"duplicates": "delete"}, "'report', 'drop' or 'downweight'"),
        ({"duplicates": "downweight", "weight": 0}, "greater than 0"),
        ({"duplicates": "drop", "weight": 0.2}, "weight=0.2 has no effect"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        Cleaning(**options)
