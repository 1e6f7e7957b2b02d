"""What the methods have in common."""

from __future__ import annotations

from peftlab.semi_supervised.uda import Uda


def test_a_run_keeps_the_whole_place_of_its_texts(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "~/a.txt"):
        assert Uda(unlabelled=name).resolved()["unlabelled"] == str(tmp_path / "a.txt")
    assert Uda().resolved()["unlabelled"] == "rest"
