from __future__ import annotations

import json
import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer

from peftlab.data import encoded_cache
from peftlab.data.encoded_cache import cached, fingerprint
from peftlab.reading.unicode_text import Door
from peftlab.sources import cache_root
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.words import Sentence
from peftlab.tasks.limits import Limits
from peftlab.tasks.ner import Ner
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Encoded

LIMITS = Limits(16, "split")


def sentences(*words: str) -> list[Sentence]:
    return [Sentence(f"train:{n}", [word], ["O"]) for n, word in enumerate(words)]


def encoded(seed=0) -> Encoded:
    random = np.random.default_rng(seed)
    arrays = {"tokens": random.integers(0, 70, 30, dtype=np.int32), "rows": np.asarray([0, 10, 30])}
    return Encoded(arrays, np.asarray([10, 20]), padding=7, counts={"words": 12, "emptied": 1})


def assert_equal(a: Encoded, b: Encoded):
    assert a.arrays.keys() == b.arrays.keys()
    for name in a.arrays:
        assert a.arrays[name].dtype == b.arrays[name].dtype
        np.testing.assert_array_equal(a.arrays[name], b.arrays[name])
    np.testing.assert_array_equal(a.lengths, b.lengths)
    assert (a.padding, a.counts) == (b.padding, b.counts)


def must_not_run():
    raise AssertionError("encoded again")


def files() -> list[str]:
    folder = cache_root() / "encoded"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def warnings_said(caplog, monkeypatch):
    """What the project's logger warns of, which a run before may have cut off from the root logger."""
    monkeypatch.setattr(logging.getLogger("peftlab"), "propagate", True)
    caplog.set_level(logging.WARNING, logger="peftlab")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def load_tokenizer(tiny_model: Path, tmp_path: Path):
    """Return a maker of tokenizers loaded with `options` after tokenizer.json has been changed."""

    def make(options=None, **changes):
        folder = tmp_path / "tokenizer"
        shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
        stored = json.loads((folder / "tokenizer.json").read_text())
        (folder / "tokenizer.json").write_text(json.dumps(stored | changes))
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, **(options or {}))

    return make


class TestFingerprint:
    def test_it_depends_on_texts_limits_task_and_format(self, ner, classification, processor, monkeypatch):
        names = [
            fingerprint(ner(), sentences("a", "b"), processor, LIMITS),
            fingerprint(ner(), sentences("a", "c"), processor, LIMITS),
            fingerprint(ner(), sentences("b", "a"), processor, LIMITS),
            fingerprint(ner(), sentences("ab"), processor, LIMITS),
            fingerprint(classification(), [Text("train:0", "a", None), Text("train:1", "b", None)], processor, LIMITS),
            fingerprint(ner(), sentences("a", "b"), processor, LIMITS._replace(max_tokens=17)),
            fingerprint(ner(), sentences("a", "b"), processor, LIMITS._replace(long="truncate")),
        ]
        monkeypatch.setattr(encoded_cache, "FORMAT", encoded_cache.FORMAT + 1)
        names.append(fingerprint(ner(), sentences("a", "b"), processor, LIMITS))
        assert len(set(names)) == len(names)

    def test_it_depends_on_the_options_that_the_task_encodes_by_and_on_no_others(self, ner, processor, monkeypatch):
        tasks = [ner(), ner(label_smoothing=0.5)]
        assert len({fingerprint(task, sentences("a"), processor, LIMITS) for task in tasks}) == 1
        monkeypatch.setattr(Ner, "encoded_by", frozenset({"label_smoothing"}))
        monkeypatch.setattr(Ner, "limited_by", frozenset({"long"}))
        assert len({fingerprint(task, sentences("a"), processor, LIMITS) for task in tasks}) == 2
        assert len({fingerprint(ner(), sentences("a"), processor, LIMITS._replace(max_tokens=n)) for n in (7, 8)}) == 1

    def test_it_depends_on_the_tokenizer(self, ner, tokenizer, load_tokenizer):
        own, same, cased = (
            fingerprint(ner(), sentences("a"), Processor("tokenizer", one), LIMITS)
            for one in (tokenizer, load_tokenizer(), load_tokenizer({"do_lower_case": False}))
        )
        assert own == same != cased

    def test_a_tokenizer_that_has_been_used_keeps_it(self, load_tokenizer):
        """Many a tokenizer.json asks for truncation and padding, which the first call switches off."""
        tokenizer = load_tokenizer(
            truncation={"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0},
            padding={
                "strategy": {"Fixed": 16},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "[PAD]",
            },
        )
        processor = Processor("tokenizer", tokenizer)
        before = processor.fingerprint()
        tokenizer(["a"], add_special_tokens=False)
        assert processor.fingerprint() == before


class TestCached:
    def test_what_is_stored_is_what_was_computed(self):
        assert_equal(cached("a", encoded), encoded())
        assert_equal(cached("a", must_not_run), encoded())
        assert files() == ["a.safetensors"]

    def test_each_name_has_its_own(self):
        cached("a", encoded)
        assert_equal(cached("b", lambda: encoded(1)), encoded(1))
        assert_equal(cached("a", must_not_run), encoded())

    @pytest.mark.parametrize("damage", ["empty", "cut", "text", "foreign", "token", "padding", "renamed"])
    def test_a_damaged_file_is_built_anew(self, damage, warnings_said):
        cached("a", encoded)
        path = cache_root() / "encoded" / "a.safetensors"
        whole = path.read_bytes()
        if damage == "foreign":
            encoded_cache.save_file({"lengths": np.zeros(3)}, path)
        elif damage == "renamed":  # another split's file, whole
            cached("b", lambda: encoded(1))
            path.with_name("b.safetensors").replace(path)
        elif damage in ("token", "padding"):  # what is there was changed by hand, all else is as it was
            with safe_open(path, framework="numpy") as file:
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
                facts = file.metadata()["facts"]
            if damage == "token":
                arrays["tokens"][3] += 1
            else:
                facts = facts.replace('"padding": 7', '"padding": 8')
            encoded_cache.save_file(arrays, path, metadata={"facts": facts})
        else:
            path.write_bytes({"empty": b"", "cut": whole[:-5], "text": b"not a safetensors file"}[damage])
        assert_equal(cached("a", encoded), encoded())
        assert path.read_bytes() == whole
        assert len(warnings_said()) == 1
        assert "cannot be read" in warnings_said()[0]
        assert_equal(cached("a", must_not_run), encoded())

    def test_a_cache_that_is_no_folder_is_done_without(self, warnings_said):
        cache_root().parent.mkdir(parents=True, exist_ok=True)
        cache_root().write_text("a file")
        assert_equal(cached("a", encoded), encoded())
        assert "going on without" in warnings_said()[0]
        assert cache_root().read_text() == "a file"

    def test_a_disk_that_cannot_be_written_is_done_without(self, monkeypatch, warnings_said):
        def refuse(*_, **__):
            raise SafetensorError("Error while serializing: I/O error: No space left on device")  # as it says so

        monkeypatch.setattr(encoded_cache, "save_file", refuse)
        assert_equal(cached("a", encoded), encoded())
        assert "No space left on device" in warnings_said()[0]
        assert files() == []

    def test_a_crash_while_storing_leaves_nothing_half_written(self, monkeypatch):
        def crash(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            cached("a", encoded)
        assert files() == []

    def test_two_at_once_both_store_and_do_not_meet(self, monkeypatch, warnings_said):
        """Both have encoded, then both have written, before either puts its file in place."""
        together = threading.Barrier(2, timeout=60)
        real = encoded_cache.save_file

        def encode():
            together.wait()
            return encoded()

        def save_file(*arguments, **options):
            real(*arguments, **options)
            together.wait()

        monkeypatch.setattr(encoded_cache, "save_file", save_file)
        with ThreadPoolExecutor(2) as pool:
            for found in pool.map(lambda _: cached("a", encode), range(2)):
                assert_equal(found, encoded())
        assert warnings_said() == []
        assert files() == ["a.safetensors"]
        assert_equal(cached("a", must_not_run), encoded())


def test_whatever_has_passed_the_door_has_a_fingerprint(ner, processor):
    door = Door()
    texts = [door(text) for text in ("\ud83d", "a\0b", "\udcff\udc80", "\uffff\ufdd0", "\U0001f600", "")]
    assert len({fingerprint(ner(), sentences(text), processor, LIMITS) for text in texts}) == len(texts)
