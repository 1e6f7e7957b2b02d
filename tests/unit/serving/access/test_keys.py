"""Keys: the file, what is valid when, and what a change of the file does to a server that runs."""

from __future__ import annotations

import argparse
import json
import logging
import os
from datetime import UTC, datetime, timedelta

import pytest

from peftlab.commands import keys as command
from peftlab.errors import UserError
from peftlab.serving.access import keys
from peftlab.serving.access.keys import KeyFile, Keys
from peftlab.storage.locks import alone

DAY = timedelta(days=1)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys.yaml"


@pytest.fixture
def clock(monkeypatch):
    """Return a function that sets the clock ahead."""

    def ahead(by):
        now = datetime.now(UTC).timestamp() + by.total_seconds()
        monkeypatch.setattr(keys.time, "time", lambda: now)

    return ahead


def test_a_key_gives_its_name_scopes_and_limits(file):
    key = keys.add(file, "reports", scopes=("ner-*", "admin"), requests=60, tokens=9000)
    caller = Keys(file).caller(key)
    assert (caller.name, caller.admin, caller.requests, caller.tokens) == ("reports", True, 60, 9000)
    assert caller.may("ner-en")
    assert not caller.may("topics")
    assert not caller.may("admin")


def test_the_file_is_its_owners_and_has_no_secret(file):
    key = keys.add(file, "reports")
    assert file.stat().st_mode & 0o777 == 0o600
    assert key.rpartition("_")[2][:20] not in file.read_text()
    assert key not in json.dumps(keys.listed(file))
    assert "hash" not in json.dumps(keys.listed(file))


def test_what_is_nearly_a_key_is_none(file):
    key = keys.add(file, "reports")
    other = keys.add(file, "other")
    view = Keys(file)
    secret = key.removeprefix("peftlab_reports_")
    for wrong in (
        "",
        key[:-1],
        key + "A",
        key + "\n",
        " " + key,
        key.upper(),
        secret,
        f"peftlab_other_{secret}",
        f"peftlab_nobody_{secret}",
        f"peftlab_reports_{'A' * 43}",
        KeyFile.read(file).keys["reports"].hash,
        "peftlab_" + "a" * 100_000,
        f"peftlab_reports_{'é' * 43}",
    ):
        assert view.caller(wrong) is None, wrong
    assert view.caller(key).name == "reports"
    assert view.caller(other).name == "other"


def test_a_key_ends_when_it_expires(file, clock):
    key = keys.add(file, "reports", lasts=DAY)
    view = Keys(file)
    clock(DAY - timedelta(minutes=1))
    assert view.caller(key)
    clock(DAY + timedelta(minutes=1))
    assert view.caller(key) is None


def test_no_time_at_all_is_not_for_ever(file):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    for action in ("add", "rotate"):
        with pytest.raises(UserError, match="--expires: the key would be over before"):
            command.execute(parser.parse_args([action, str(file), "x", "--expires", "0d"]))
    keys.add(file, "valid")
    keys.add(file, "over", lasts=timedelta())
    keys.rotate(file, "valid", DAY, timedelta())
    assert [(row["name"], row["state"]) for row in keys.listed(file)] == [("valid", "expired"), ("over", "expired")]


def test_rotated_both_hold_for_the_overlap(file, clock):
    old = keys.add(file, "reports", scopes=("a",), requests=7)
    view = Keys(file)
    new = keys.rotate(file, "reports", DAY)
    assert view.caller(old) == view.caller(new)
    assert view.caller(new).requests == 7
    clock(DAY + timedelta(minutes=1))
    assert view.caller(old) is None
    assert view.caller(new)


def test_an_old_key_does_not_outlive_its_own_end(file, clock):
    old = keys.add(file, "reports", lasts=timedelta(hours=1))
    new = keys.rotate(file, "reports", DAY, DAY)
    clock(timedelta(hours=2))
    view = Keys(file)
    assert view.caller(old) is None
    assert view.caller(new)


def test_revoked_at_once_and_for_ever(file):
    key, other = keys.add(file, "reports"), keys.add(file, "other")
    view = Keys(file)
    old = keys.rotate(file, "reports", DAY)
    keys.revoke(file, "reports")
    assert [view.caller(one) for one in (key, old)] == [None, None]
    assert view.caller(other)
    with pytest.raises(UserError, match="revoked, and stays so"):
        keys.rotate(file, "reports", DAY)
    with pytest.raises(UserError, match="already"):
        keys.add(file, "reports")


def test_disabled_by_hand(file, capsys):
    key, _ = keys.add(file, "reports"), keys.add(file, "other")
    view = Keys(file)
    content = KeyFile.read(file)
    content.keys["reports"] = keys.replace(content.keys["reports"], disabled=True)
    content.write(file)
    assert view.caller(key) is None
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    for name, is_told in (("reports", True), ("other", False)):
        command.execute(parser.parse_args(["rotate", str(file), name]))
        assert ("is disabled" in capsys.readouterr().err) == is_told


def test_a_file_that_cannot_be_read_leaves_the_keys(file, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("peftlab"), "propagate", True)
    key = keys.add(file, "reports")
    view = Keys(file)
    for spoil in (
        lambda: file.write_text("keys: ["),
        lambda: file.write_text("salt: a\nkeys: {reports: {hash: b}}"),
        lambda: file.chmod(0o644),
    ):
        spoil()
        caplog.clear()
        assert view.caller(key)
        assert view.caller(key)
        records = dict.fromkeys(caplog.records)  # one comes twice where another test has left a handler
        assert [record.levelname for record in records] == ["ERROR"]  # once for a change
    file.unlink()
    assert view.caller(key) is None
    other = keys.add(file, "other")
    assert view.caller(other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no file of keys"),
        ("salt: a\nkeys: {x: {hash: h, scopes: [a], created: yesterday}}", "keys.x.created"),
        ("salt: a\nkeys: {x: {hash: h, scopes: a, created: '2026-01-01T00:00:00+00:00'}}", "keys.x.scopes"),
        ("salt: a\nkeys: {x: {hash: h, scopes: [a], created: '2026-01-01', expire: null}}", "keys.x.expire is none of"),
        (
            "salt: a\nkeys: {x: {hash: h, scopes: [a], created: '2026-01-01', tokens_per_minute: 0}}",
            "keys.x.tokens_per_minute must be 1 or more",
        ),
        ("salt: a\nkeys: {x: 1, x: 2}", ":2: is no YAML of plain values"),
        ("!!python/object:os.system x", ":1: is no YAML of plain values"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(file, text, message):
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(UserError, match="keys") as error:
        Keys(file)
    assert message in str(error.value)


def test_files_that_are_refused(file, tmp_path):
    with pytest.raises(UserError, match="peftlab keys add"):
        Keys(file)
    keys.add(file, "reports", lasts=-DAY)
    with pytest.raises(UserError, match="no key there is valid"):
        Keys(file)
    with pytest.raises(UserError, match="has expired"):
        keys.rotate(file, "reports", DAY)
    file.chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        keys.add(file, "other")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(UserError, match="no plain file"):
        Keys(pipe)
    run = tmp_path / "run"
    (run / "below").mkdir(parents=True)
    (run / "record.json").touch()
    with pytest.raises(UserError, match="folder of a run"):
        keys.add(run / "below" / "keys.yaml", "reports")
    for name in ("", "A", "a_b", "-a", "a" * 41, "ü", "a/b"):
        with pytest.raises(UserError, match="names no key"):
            keys.add(file, name)


def test_two_who_change_the_file_wait_for_each_other(file, monkeypatch):
    held = []
    monkeypatch.setattr(keys, "alone", lambda *place: held.append(place) or alone(*place))
    keys.add(file, "a")
    keys.revoke(file, "a")
    assert held == [(file.parent, file.name)] * 2
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_no_key_administrates_by_the_name_of_a_model(file):
    for models, more in ((["admin"], False), (["ner-*", "admin"], True)):
        options = argparse.Namespace(
            json=False, action="add", file=file, name="x", models=models, admin=more, expires=None, overlap=None
        )
        with pytest.raises(UserError, match="say --admin"):
            command.execute(options)
    assert not file.exists()
