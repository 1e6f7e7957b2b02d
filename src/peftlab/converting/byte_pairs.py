"""A tokenizer of byte pairs (Sennrich et al. 2016) on bytes, from its vocabulary and merges, as a tokenizer.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
"""Bytes as printable characters, after a division into words as GPT-2's."""

DIVISIONS: Mapping[str, dict[str, Any]] = {
    "gpt-2": _BYTES,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTES]},
}
"""How a text is divided before pairs are merged, by llama.cpp's names: into words, and SmolLM's digits one by one."""


def tokenizer_json(
    vocabulary: Sequence[str], merges: Sequence[str], added: Mapping[int, bool], division: str
) -> dict[str, Any]:
    """Return the content of a tokenizer.json; as in llama.cpp, bytes that the vocabulary lacks are left out of a text.

    Args:
        vocabulary: the tokens in the order of their ids.
        merges: two tokens each, with a space between them, in the order in which they are merged.
        added: the ids of the tokens that are looked for before a text is divided, and whether each is a special one.
        division: one of `DIVISIONS`.

    Raises:
        ValueError: a token occurs twice, or a merge is not of two tokens.
        KeyError: an added id or a division is unknown.
    """
    ids = {token: n for n, token in enumerate(vocabulary)}
    pairs = [merge.split(" ") for merge in merges]
    if len(ids) < len(vocabulary):
        raise ValueError("a token occurs twice in its vocabulary")
    if odd := next((pair for pair in pairs if len(pair) != 2), None):
        raise ValueError(f"{' '.join(odd)!r} is no merge of two tokens")
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": n, "content": vocabulary[n], **flags, "special": special} for n, special in sorted(added.items())
        ],
        "normalizer": None,
        "pre_tokenizer": DIVISIONS[division],
        "post_processor": _BYTES,
        "decoder": _BYTES,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": ids,
            "merges": pairs,
        },
    }
