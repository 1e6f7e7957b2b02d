"""Which runs can answer together: those that read the same, and hold the same examples out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from peftlab.errors import UserError
from peftlab.use.ensembles.members import check_members, division

DATA = {
    "fold": None,
    "splits": {"train": "all.csv", "validation": 0.1, "test": 0.1},
    "format": {"rows": {"text": "title", "weight": None}, "group": None},
    "max_tokens": 64,
    "long": "split",
    "batch_size": 16,
}


def run(**data) -> Any:
    """A run on one file, from which validation and test examples are held out."""
    digests = dict.fromkeys(("train", "validation", "test"), "1f")
    return SimpleNamespace(
        config={"data": DATA | data, "model": {}, "task": {}},
        record=SimpleNamespace(data={"identity": {"data_sha256": digests, "weights_sha256": "2e"}}),
        folder=SimpleNamespace(path="runs/one"),
        parts=SimpleNamespace(task=SimpleNamespace(labels=["a", "b"])),
    )


@pytest.mark.parametrize(
    ("data", "differs"),
    [
        ({"splits": DATA["splits"] | {"test": 0.3}}, "data.splits.test differ, 0.3 and 0.1"),
        ({"format": {"rows": {"text": "body"}}}, "data.format.rows.text differ, body and title"),
        ({"format": DATA["format"] | {"group": "author"}}, "data.format.group differ, author and None"),
        ({"duplicates": "drop"}, "data.duplicates differ, drop and None"),
        ({"subset": {"labels": ["a"]}}, r"data.subset.labels.0 differ, a and None"),
        ({"mask_pii": {"how": "tag"}}, "data.mask_pii.how differ, tag and None"),
    ],
)
def test_members_that_read_otherwise_or_held_others_out_are_refused(data, differs):
    with pytest.raises(UserError, match=differs):
        check_members([run(), run(**data)])


def test_what_only_the_training_uses_and_what_digests_stand_for_may_differ():
    free = {
        "splits": DATA["splits"] | {"train": "copy.csv"},
        "format": {"rows": {"text": "title", "weight": "votes"}},
        "batch_size": 8,
        "mask_pii": None,
    }
    check_members([run(), run(**free)])
    masked = [run(mask_pii={"how": "surrogate", "key": place}) for place in ("a.key", "b.key")]
    check_members(masked)


def test_the_division_is_what_decides_which_example_is_in_which_split():
    assert division(run(subset={"labels": ["a"]}, max_tokens=8)) == division(run())
    for data in ({"splits": {"test": 0.3}}, {"fold": "2/5"}, {"format": {"rows": {"documents": True}}}):
        assert division(run(**data)) != division(run())
