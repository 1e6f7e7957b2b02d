"""``peftlab fairness --groups names`` on a finished run of named entities: what it prints, keeps and refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(finished) -> Path:
    return Path(shutil.copytree(finished.folder, "copy"))


@pytest.mark.slow
def test_names_in_the_sentences_of_the_package_and_of_the_run(peftlab, copy):
    few = ["--groups", "names", "--places", "us,cn", "--names", "3"]
    code, out, _ = peftlab("fairness", copy, *few, "--json")
    assert code == 0
    document = json.loads(out)
    assert (document["kind"], document["sentences"], document["texts"]) == ("names", 60, 60 * 12)
    assert {group: len(names) for group, names in document["people"].items()} == {
        f"{place} {gender}": 3 for place in ("us", "cn") for gender in ("female", "male")
    }
    assert [(one["measure"], one["factor"]) for one in document["gaps"]] == [
        ("recall", factor) for factor in ("gender", "place", "place and gender")
    ]
    for one in document["gaps"]:
        means = [group["mean"]["value"] for group in one["gap"]["groups"]]
        assert one["gap"]["value"] == pytest.approx(max(means) - min(means))
        assert 0 <= min(means) <= max(means) <= 1

    code, out, _ = peftlab("fairness", copy, *few, "--templates", "sentences")
    assert code == 0
    assert "sentences (test sentences), each with every name" in out
    assert "recall by place and gender" in out
    kept = json.loads((copy / "fairness.json").read_text())
    assert [one["templates"] for one in kept] == ["peftlab's sentences about a person", "test sentences"]


def test_what_cannot_be_is_said(peftlab, copy):
    code, _, err = peftlab("fairness", copy, "--groups", "names", "--places", "us,ru_RU")
    assert code == 2
    assert "not in Latin letters" in err
    Path("mine.txt").write_text("He left.\n")
    code, _, err = peftlab("fairness", copy, "--groups", "names", "--templates", "mine.txt")
    assert code == 2
    assert "mine.txt:1: {name} stands in it 0 times" in err
