"""Archives read back: every member that differs is named, and no archive does harm."""

from __future__ import annotations

import json
import os
import random
import re
import stat
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.report.small_runs import make_run, make_sweep

from peftlab.errors import UserError
from peftlab.report import unpacking
from peftlab.report.archive import MANIFEST, write
from peftlab.report.unpacking import opened, run_folder, verify
from peftlab.runs.find import runs_below
from peftlab.runs.record import RunRecord

Members = list[tuple[zipfile.ZipInfo, bytes]]


@pytest.fixture
def archive() -> str:
    write([make_sweep(runs=2)], "a.zip")
    return "a.zip"


def rewrite(archive: str, change: Callable[[Members], None]) -> None:
    """Write an archive anew after `change` has changed its members."""
    with zipfile.ZipFile(archive) as old:
        members = [(info, old.read(info)) for info in old.infolist()]
    change(members)
    with warnings.catch_warnings(), zipfile.ZipFile(archive, "w") as new:
        warnings.simplefilter("ignore")  # members of the same name
        for info, content in members:
            new.writestr(info, content)


def replaced(name: str, content: bytes) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        members[:] = [(info, content if info.filename == name else old) for info, old in members]

    return change


def without(name: str) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        members[:] = [(info, content) for info, content in members if info.filename != name]

    return change


def added(name: str, mode: int = stat.S_IFREG, listed: bool = True) -> Callable[[Members], None]:
    """Add a member, and list it in the manifest with its digest."""

    def change(members: Members) -> None:
        info = zipfile.ZipInfo("x")
        info.filename = name  # as it is
        info.external_attr = (mode | 0o644) << 16
        members.append((info, b"x"))
        if listed:
            in_manifest(name)(members)

    return change


def in_manifest(name: str) -> Callable[[Members], None]:
    """List a member in the manifest, whether or not there is one."""

    def change(members: Members) -> None:
        manifest = next(number for number, (info, _) in enumerate(members) if info.filename == MANIFEST)
        document = json.loads(members[manifest][1])
        digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        document["files"].append({"path": name, "bytes": 1, "sha256": digest})
        members[manifest] = (members[manifest][0], json.dumps(document).encode())

    return change


def test_what_was_written_holds_and_comes_back(archive):
    verification = verify(archive)
    assert verification.holds
    assert (verification.runs, verification.faults, verification.signature.state) == (2, (), "none")
    with opened(archive) as unpacked:
        assert unpacked.faults == ()
        for file in (path for path in unpacked.folder.rglob("*") if path.is_file()):
            assert file.read_bytes() == ("sweeps" / file.relative_to(unpacked.folder)).read_bytes()
        assert [row["status"] for row in runs_below(unpacked.folder)] == ["completed", "completed"]
    assert not unpacked.folder.exists()


TEST = "tiny/run0/predictions/test.jsonl"
FAULTS = {
    "tampered": (replaced(TEST, b"{}\n"), TEST, "is not what the manifest lists"),
    "missing": (without(TEST), TEST, "is missing"),
    "extra": (added("tiny/run0/extra.json", listed=False), "tiny/run0/extra.json", "is not in the manifest"),
    "twice": (added(TEST, listed=False), TEST, "is there more than once"),
    "upward": (added("../up.json", listed=False), "../up.json", "is not in the manifest"),
    "backslash": (added("tiny\\..\\..\\up.json"), "tiny\\..\\..\\up.json", "has a name that leads elsewhere"),
    "not normal": (added("tiny//run0/x.json"), "tiny//run0/x.json", "has a name that leads elsewhere"),
    "control": (added("tiny/run0/a\x1bb.json"), "tiny/run0/a\x1bb.json", "has a name that leads elsewhere"),
    "link": (added("tiny/run0/link", stat.S_IFLNK), "tiny/run0/link", "is a link or a device"),
    "below a file": (added(f"{TEST}/x"), TEST, "has the name of something else"),
    "other spelling": (added("tiny/run0/CONFIG.yaml"), "tiny/run0/CONFIG.yaml", "differs .* in its spelling alone"),
    "nameless": (added("", listed=False), "", "is not in the manifest"),
    "too long": (added(f"tiny/{'x' * 300}"), f"tiny/{'x' * 300}", "has a name that is too long"),
    "too deep": (added("/".join(["x" * 200] * 20)), "/".join(["x" * 200] * 20), "has a name that is too long"),
}


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named_and_left_out(archive, fault):
    change, member, what = FAULTS[fault]
    rewrite(archive, change)
    verification = verify(archive)
    assert not verification.holds
    named = {fault.member: fault.what for fault in verification.faults}
    assert member in named
    assert re.search(what, named[member])
    with opened(archive) as unpacked:
        assert {fault.member for fault in unpacked.faults} == set(named)
        left = {str(path.relative_to(unpacked.folder)) for path in unpacked.folder.rglob("*") if path.is_file()}
        assert not left & set(named)
        assert "tiny/run1/record.json" in left
    assert not list(Path().rglob("up.json"))
    assert not list(Path(unpacked.folder.parent).glob("up.json"))


def test_a_name_of_many_folders_costs_no_more_than_its_length(archive):
    name = "a/" * 5000 + "b"
    rewrite(archive, in_manifest(name))
    tracemalloc.start()
    try:
        (fault,) = verify(archive).faults
        assert (fault.member, fault.what) == (name, "is missing")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000  # all folders above it, one by one, have 25 MB
    finally:
        tracemalloc.stop()


def test_a_path_upward_in_the_manifest_is_no_manifest(archive):
    rewrite(archive, added("../up.json"))
    with pytest.raises(UserError, match=r"its manifest\.json cannot be read: files.*path"):
        verify(archive)


def test_a_file_that_was_changed_before_it_was_archived_contradicts_its_record():
    folder = make_run(Path("runs/tiny/run0"))
    (folder / "predictions/test.jsonl").write_text("{}\n")
    write([folder], "a.zip")
    (fault,) = verify("a.zip").faults
    assert fault.member == "run0/predictions/test.jsonl"
    assert "is not what run0/record.json lists" in fault.what


def test_a_file_that_the_record_lists_and_the_manifest_does_not_is_missing(archive):
    def forget(members: Members) -> None:
        without(TEST)(members)
        document = json.loads(next(content for info, content in members if info.filename == MANIFEST))
        document["files"] = [file for file in document["files"] if file["path"] != TEST]
        replaced(MANIFEST, json.dumps(document).encode())(members)

    rewrite(archive, forget)
    verification = verify(archive)
    assert [fault.member for fault in verification.faults] == [TEST]
    assert verification.faults[0].what == "is not in the archive, and tiny/run0/record.json lists it"
    assert not verification.holds


def test_weights_are_missed_only_where_they_were_asked_for():
    folder = make_run(Path("runs/tiny/run0"))
    (folder / "checkpoints/best.safetensors").unlink()
    (doubt,) = write([folder], "with.zip", weights=True).doubts
    assert "gone, 1 of them, such as checkpoints/best.safetensors" in doubt.what
    assert [fault.member for fault in verify("with.zip").faults] == ["run0/checkpoints/best.safetensors"]
    assert write([folder], "without.zip").doubts == verify("without.zip").faults == ()


def test_a_record_that_is_none_is_named():
    folder = make_run(Path("runs/tiny/run0"))
    (folder / "record.json").write_text('{"files": 3}')
    write([folder], "a.zip")
    (fault,) = verify("a.zip").faults
    assert fault.what.startswith("is no run record: files: expected a list")


class TestNoArchive:
    @pytest.mark.parametrize(
        ("content", "message"),
        [(b"", "no whole zip file"), (b"PK\3\4 and so on", "no whole zip file"), (None, "there is no such file")],
    )
    def test_no_zip_file(self, content, message):
        if content is not None:
            Path("b.zip").write_bytes(content)
        with pytest.raises(UserError, match=f"'b.zip'.*{message}"):
            verify("b.zip")

    def test_half_a_file(self, archive):
        whole = Path(archive).read_bytes()
        Path(archive).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match="no whole zip file"), opened(archive):
            pass

    def test_a_folder_and_a_pipe(self):
        Path("b.zip").mkdir()
        os.mkfifo("c.zip")
        for name in ("b.zip", "c.zip"):
            with pytest.raises(UserError, match=f"'{name}'"):
                verify(name)

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            (None, "it has not one manifest.json"),
            ({"format": "another"}, "its format is not 'peftlab archive'"),
            ({"format": "peftlab archive", "version": 2}, "reads up to 1. Upgrade"),
            ({"format": "peftlab archive", "version": 1}, "weights is missing"),
        ],
    )
    def test_another_manifest(self, archive, document, message):
        rewrite(archive, without(MANIFEST) if document is None else replaced(MANIFEST, json.dumps(document).encode()))
        with pytest.raises(UserError, match=message):
            verify(archive)

    def test_a_bomb(self, archive, monkeypatch):
        monkeypatch.setattr(unpacking, "ALWAYS", 2**20)
        with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as opened_archive:
            opened_archive.writestr("zeros", b"\0" * 2**23)
        with pytest.raises(UserError, match="bytes unpacked, more than 200 times its own: not read"):
            verify(archive)

    def test_a_way_of_packing_that_may_ask_for_any_memory(self, archive):
        def change(members):
            for info, _ in members:
                if info.filename in (TEST, MANIFEST):
                    info.compress_type = zipfile.ZIP_LZMA

        rewrite(archive, change)
        with pytest.raises(UserError, match="packed in a way that archives are not"):
            verify(archive)

    def test_no_room(self, archive, monkeypatch):
        monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10}))
        with pytest.raises(UserError, match=r"and 10 are free in .*: set TMPDIR"), opened(archive):
            pass


@pytest.mark.slow
def test_whatever_bytes_are_changed_nothing_crashes_and_nothing_false_is_believed():
    write([make_sweep(runs=1)], archive := Path("a.zip"))
    whole, chance = archive.read_bytes(), random.Random(0)
    recorded = {path.relative_to("sweeps").as_posix(): path.read_bytes() for path in Path("sweeps").rglob("*.*")}
    outcomes, messages = set(), ""
    for _ in range(100):
        changed = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 20])):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        archive.write_bytes(changed[: chance.choice([len(changed)] * 4 + [chance.randrange(len(changed))])])
        try:
            with opened(archive) as unpacked:
                for file in (path for path in unpacked.folder.rglob("*") if path.is_file()):
                    assert file.read_bytes() == recorded[file.relative_to(unpacked.folder).as_posix()]
                outcomes.add(bool(unpacked.faults))
        except UserError as error:
            messages += str(error)
            outcomes.add("refused")
    assert "\n" not in messages
    assert outcomes == {True, False, "refused"}


class TestOneRun:
    def test_by_the_start_of_its_id_its_name_or_alone(self, archive):
        write([make_run(Path("runs/tiny/3f9c"))], "one.zip")
        for named, name in {
            "a.zip:run1": "a.zip:tiny/run1",
            "a.zip:tiny/run0": "a.zip:tiny/run0",
            "one.zip:3f": "one.zip:3f9c",
            "one.zip": "one.zip:3f9c",
        }.items():
            with run_folder(named) as (folder, called):
                assert called == name
                assert RunRecord.load(folder).data["run_id"] == name.rpartition(":")[2].rpartition("/")[2]
            assert not folder.exists()

    def test_a_run_that_is_in_no_archive(self):
        make_run(Path("runs/tiny/3f9c"))
        for named in ("3f", "runs/tiny/3f9c"):
            with run_folder(named) as (folder, called):
                assert (folder, called) == (Path("runs/tiny/3f9c"), "runs/tiny/3f9c")

    @pytest.mark.parametrize(
        ("run", "message"),
        [
            ("a.zip", "a.zip: it has more than one run: name one as a.zip:ID, of tiny/run0, tiny/run1"),
            ("a.zip:run", "'run' names more than one of its runs"),
            ("a.zip:x", "'x' names none of its runs: name one as a.zip:ID, of tiny/run0, tiny/run1"),
            ("b.zip:x", "'b.zip': there is no such file"),
            ("b.zip", "'b.zip': there is no such file"),
        ],
    )
    def test_none_or_several(self, archive, run, message):
        with pytest.raises(UserError, match=message), run_folder(run):
            pass

    def test_one_that_was_tampered_with_is_not_used(self, archive):
        rewrite(archive, replaced(TEST, b"{}\n"))
        with run_folder("a.zip:run1"):
            pass
        with pytest.raises(UserError, match=f"a.zip: {TEST} is not what the manifest lists"), run_folder("a.zip:run0"):
            pass
