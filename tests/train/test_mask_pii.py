"""A run with ``data.mask_pii``: nothing that it keeps has personal data, and predicting masks the same way."""

from __future__ import annotations

import csv
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

import peftlab as python_api
from peftlab.errors import ConfigError, DataError, UserError
from peftlab.personal_data.masker import Masker
from peftlab.runs.record import RunRecord
from peftlab.serving.models.models import Models
from peftlab.serving.observing.observers import _mask
from peftlab.serving.observing.reference import file_of
from peftlab.use.person_names import names_of

pytestmark = pytest.mark.slow

MAIL, PHONE = "bob.roe@acme.org", "+49 30 901820"
KEY = "k" * 32


@pytest.fixture
def texts(tiny_texts):
    """Copy tiny texts, with an address and a number in each."""
    folder = Path("own")
    folder.mkdir()
    for file in tiny_texts.glob("*.csv"):
        with file.open(newline="") as source, (folder / file.name).open("w", newline="") as out:
            head, *rows = csv.reader(source)
            assert head[0] == "text"
            own = ([f"{MAIL.replace('bob', f'bob{n}')} {PHONE} {text}", *rest] for n, (text, *rest) in enumerate(rows))
            csv.writer(out, lineterminator="\n").writerows([head, *own])
    return folder


@pytest.fixture
def run(command, tiny_run, texts):
    def make(*overrides, code=0):
        ended = command(*tiny_run, "task=classification", "data=csv", f"data.path={texts}", *overrides)
        assert ended.code == code, ended.err
        return ended

    return make


def test_a_run_keeps_nothing(run):
    run("data.mask_pii={with: tag}", "run_dir=masked")
    record = RunRecord.load(Path("masked"))
    splits = record.data["data"]["splits"]
    for split in splits.values():
        assert split["masked_email"] == split["masked_phone"] == split["rows"]
    kept = [file for file in Path("masked").rglob("*") if file.is_file()]
    assert any(file.name == "test.jsonl" for file in kept)
    for file in kept:
        content = file.read_bytes()
        assert b"acme" not in content, file
        assert b"901820" not in content, file

    loaded = python_api.load("masked")
    first, second = loaded.predict([f"Mail {MAIL} now", "nothing here"])
    assert first["text"] == "Mail [EMAIL] now"
    assert first["masked"] == {"email": 1}
    assert "masked" not in second
    (same,) = loaded.predict(["Mail [EMAIL] now"])
    assert {**first, "masked": 0} == {**same, "masked": 0}

    loaded.export("plain")  # which masks nothing
    card = Path("plain/README.md").read_text()
    assert "texts without personal data: mask personal data in what it is given first" in card

    models = Models(["own=masked"], mask=Masker(kinds=("ip",)))  # the server's door
    (answer,) = models.answers([models.read("own", f"Mail {MAIL} from 10.2.3.4")])
    assert (answer["text"], answer["masked"]) == ("Mail [EMAIL] from [IP]", {"email": 1, "ip": 1})


def test_a_server_masks_the_names_that_a_run_finds(peftlab, run, finished, monkeypatch):
    """The server's own options, its workers' settings, and one of its workers' models."""
    run("run_dir=asked")
    entities = [
        (text, one)
        for text in ("Ada Lovelace moved to Paris .", "Unesco hired Noether in Warsaw yesterday")
        for one in python_api.load(finished.folder).predict([text])[0]["entities"]
    ]
    text, name = entities[0]
    started = []
    monkeypatch.setattr("peftlab.serving.server.serve", lambda settings, announce: started.append(settings))

    def served(*more):
        assert peftlab("serve", "own=asked", "--mask-names", finished.folder, *more)[0] in (None, 0)
        settings = pickle.loads(pickle.dumps(started.pop()))  # workers are other processes
        return settings.mask, Models(settings.runs, mask=settings.mask)

    mask, models = served("--mask-names-types", name["type"])
    answer, other = models.answers([models.read("own", one) for one in (text, MAIL)])
    assert "[NAME]" in answer["text"]
    assert answer["masked"]["name"] >= 1
    assert other["text"] == "[EMAIL]"
    assert file_of("ab12", mask) != file_of("ab12", replace(mask, names=names_of(finished.folder)))
    (logged,) = [_mask(mask)(text)]  # --log-texts
    assert "[NAME]" in logged

    Path("key").write_text(KEY)
    _, models = served("--mask-names-types", name["type"], "--mask-with=surrogate", "--mask-key=key")
    (answer,) = models.answers([models.read("own", text)])
    assert name["text"] not in answer["text"]
    assert "[NAME]" not in answer["text"]

    with pytest.raises(UserError, match=r"finds no entities; name a run of task=ner"):
        Models(["own=asked"], mask=Masker(names=names_of("asked")))
    with pytest.raises(UserError, match="there is no type 'NOBODY'"):
        Models(["own=asked"], mask=Masker(names=names_of(finished.folder, ["NOBODY"])))
    code, _, err = peftlab("serve", "own=asked", "--mask-names-types=PER")
    assert code == 2
    assert "--mask-names" in err


def test_surrogates_belong_to_their_key(run):
    for name in ("a", "b"):
        Path(name).write_text(KEY.replace("k", name))
        run(f"data.mask_pii={{with: surrogate, key: {name}, kinds: [email]}}", f"run_dir=of_{name}")
    Path("moved").write_text(KEY.replace("k", "a"))
    one, other = (RunRecord.load(Path(f"of_{name}")).data["identity"] for name in ("a", "b"))
    assert one["sha256"] != other["sha256"]
    assert one["config_sha256"] == other["config_sha256"]
    assert run("data.mask_pii={with: surrogate, key: moved, kinds: [email]}", "run_dir=of_a").code == 0  # the same run
    assert KEY.replace("k", "a") not in Path("of_a/record.json").read_text()
    rows = [json.loads(line) for line in Path("of_a/predictions/test.jsonl").read_text().splitlines()]
    assert rows


def test_data_may_be_refused(run):
    ended = run("data.mask_pii={with: refuse}", "run_dir=no", code=2)
    assert "it holds personal data: email at characters 0 to 17, phone" in ended.err
    assert ".csv:2: " in ended.err
    assert "acme" not in ended.err
    assert not Path("no").exists()


def test_objects_may_be_refused(run):
    Path("own").rename("unused")
    Path("own").mkdir()
    for file in Path("unused").iterdir():
        (Path("own") / file.name).write_text(file.read_text().replace(f" {PHONE}", "").replace("@acme.org", ""))
    run("data.mask_pii={with: refuse, kinds: [email]}", "run_dir=refusing")
    loaded = python_api.load("refusing")
    with pytest.raises(DataError, match="personal data: email at characters 5 to 21") as error:
        loaded.predict([f"Mail {MAIL} now"])
    assert "acme" not in str(error.value)
    (refused,) = loaded.answers([f"Mail {MAIL} now"])
    assert "acme" not in json.dumps(refused.at("x:1"))


def test_wrong_options_are_named(run):
    for option, message in (
        ("{kinds: [mail]}", "Did you mean 'email'"),
        ("{with: surrogate}", "belong together"),
        ("{with: mask}", "data.mask_pii.with"),
        ("{kinds: [name]}", "peftlab mask DATA --out MASKED --names RUN"),
        ("{with: surrogate, key: nowhere}", "--new-key nowhere"),
    ):
        assert message in run(f"data.mask_pii={option}", code=2).err


def test_a_lost_key_is_named(run):
    Path("key").write_text(KEY)
    run("data.mask_pii={with: surrogate, key: key}", "run_dir=run")
    Path("key").unlink()
    with pytest.raises(ConfigError, match="the key of surrogates"):
        python_api.load("run").predict(["a"])
