from __future__ import annotations

import logging

import numpy as np
import pytest
from safetensors.numpy import load_file

from peftlab.data import encoded_blocks
from peftlab.data.encoded_blocks import cached_in_blocks, joined
from peftlab.data.encoded_cache import cached, file_of
from peftlab.errors import DiskError
from peftlab.sources import cache_root
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.words import Sentence
from peftlab.tasks.limits import Limits
from peftlab.tasks.task import Encoded

WORDS = ["Ada", "Lovelace", "moved", "from", "Paris", "to", "Rome", "yesterday", "said", "the", "Royal", "report"]


def assert_equal(a: Encoded, b: Encoded):
    assert a.arrays.keys() == b.arrays.keys()
    for name in a.arrays:
        assert a.arrays[name].dtype == b.arrays[name].dtype
        np.testing.assert_array_equal(a.arrays[name], b.arrays[name])
    np.testing.assert_array_equal(a.lengths, b.lengths)
    assert (a.padding, a.counts) == (b.padding, b.counts)


@pytest.fixture(params=["ner", "classification", "pairs"])
def split(request, processor):
    """Return a task's pointers, and its encodings of a whole split and of blocks of it."""
    draw = np.random.default_rng(0)
    texts = [draw.choice(WORDS, draw.integers(1, 30)).tolist() for _ in range(23)]
    if request.param == "ner":
        task, limits = request.getfixturevalue("ner")(), Limits(8, "split")
        examples = [Sentence(f"a:{n}", words, ["O"] * len(words)) for n, words in enumerate(texts)]
    else:
        task, limits = request.getfixturevalue("classification")(), Limits(8, "truncate")
        pair = "a pair" if request.param == "pairs" else None
        examples = [Text(f"a:{n}", " ".join(words), "x", pair) for n, words in enumerate(texts)]

    def encode(size: int) -> list[Encoded]:
        return [task.encode(examples[n : n + size], processor, limits) for n in range(0, len(examples), size)]

    return task.pointers, encode


@pytest.mark.parametrize("size", [1, 4, 23])
def test_blocks_make_the_whole(split, size):
    pointers, encode = split
    (whole,) = encode(100)
    assert_equal(joined(encode(size), pointers), whole)
    stored = cached_in_blocks("a", lambda: encode(size), pointers)
    assert_equal(stored, whole)
    np.testing.assert_array_equal(stored.tokens, whole.tokens)


def test_the_file_is_the_one_that_is_stored_at_once(split):
    pointers, encode = split
    cached_in_blocks("a", lambda: encode(5), pointers)
    assert_equal(cached("a", lambda: pytest.fail("encoded again")), encode(100)[0])
    assert load_file(file_of("a")).keys() == {*encode(100)[0].arrays, "lengths"}
    assert [path.name for path in (cache_root() / "encoded").iterdir()] == ["a.safetensors"]
    file_of("a").unlink()
    cached("a", lambda: encode(100)[0])
    assert_equal(cached_in_blocks("a", lambda: pytest.fail("encoded again"), pointers), encode(100)[0])


def test_arrays_are_mapped_and_not_read(split):
    pointers, encode = split
    stored = cached_in_blocks("a", lambda: encode(5), pointers)
    assert isinstance(stored.arrays["tokens"].base, np.memmap)
    before = file_of("a").read_bytes()
    stored.arrays["tokens"][:] = 0
    assert file_of("a").read_bytes() == before


@pytest.mark.parametrize("damage", ["empty", "cut", "a byte", "another name"])
def test_a_damaged_file_is_built_anew(split, damage, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("peftlab"), "propagate", True)
    pointers, encode = split
    cached_in_blocks("a", lambda: encode(5), pointers)
    whole = file_of("a").read_bytes()
    if damage == "another name":
        file_of("a").rename(file_of("b"))
    else:
        spoilt = {"empty": b"", "cut": whole[:-9], "a byte": whole[:-1] + bytes([whole[-1] ^ 1])}[damage]
        file_of("a").write_bytes(spoilt)
    name = "b" if damage == "another name" else "a"
    assert_equal(cached_in_blocks(name, lambda: encode(5), pointers), encode(100)[0])
    assert "cannot be read" in caplog.text
    assert_equal(cached_in_blocks(name, lambda: pytest.fail("encoded again"), pointers), encode(100)[0])


def test_a_cache_that_cannot_be_written_is_done_without(split, monkeypatch):
    def refuse(*_):
        raise DiskError("no space is left")

    pointers, encode = split
    monkeypatch.setattr(encoded_blocks, "_store", refuse)
    assert_equal(cached_in_blocks("a", lambda: encode(5), pointers), encode(100)[0])
    assert not file_of("a").exists()
