"""What a record claims, and what other code may have counted otherwise."""

from __future__ import annotations

from types import SimpleNamespace

from peftlab.use.claims import _Claims


def test_an_overlap_that_other_code_has_counted_is_no_edit():
    record = SimpleNamespace(data={}, extensions={}, events=lambda kind: [])
    evidence = SimpleNamespace(sections={}, course=None, logged={})
    then, now = ({"data": {"train_test_overlap": count}} for count in (41, 0))
    of_other_code, of_this = (_Claims(record, None, {}, evidence, same_code) for same_code in (False, True))
    assert list(of_other_code._held(then, now)) == []
    assert "data.train_test_overlap" in of_other_code.unverified
    assert [cause.what for cause in of_this._held(then, now)] == ["record.json: data.train_test_overlap"]
