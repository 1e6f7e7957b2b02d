"""Which methods change weights linearly, or by products of two factors: what can be averaged over models, and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

AVERAGED = frozenset(
    ["BEFT", "C3A", "FOURIERFT", "FROD", "IA3", "LN_TUNING", "MISS", "SHIRA", "SUPERTUNING", "TINYLORA", "WAVEFT"]
)
"""Types of the peft library whose change of a weight is a linear function of what they train."""
PRODUCTS = {
    "LORA": (("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B")),
    "HIRA": (("hira_A", "hira_B"),),
}
"""By type, the names of the matrices A and B whose product the change of a weight is linear in."""


class Factors(NamedTuple):
    """The names of two trained tensors, B and A, in whose product the change of a weight is linear."""

    up: str
    """B, shape (outputs, rank)."""
    down: str
    """A, shape (rank, inputs)."""


def why_not_averaged(peft_type: str, options: Mapping[str, Any]) -> str | None:
    """Return why no mean can be taken of what a method of the peft library trains; None: it can."""
    if options.get("use_dora"):
        return "it divides weights by their norms, and their mean over models has no place among its own"
    if options.get("init_weights") == "bat":
        return "init_weights=bat multiplies what it trains with the weights of the backbone"
    if peft_type in AVERAGED or peft_type in PRODUCTS:
        return None
    return (
        f"the change of a weight by the library's {peft_type} is neither linear in what it trains nor one product, so "
        "that no tensors of its own make the mean change of several models"
    )


def products(peft_type: str, names: Iterable[str]) -> list[Factors]:
    """Return the factors among the `names` of the tensors that a method of the peft library trains."""
    all_names = set(names)
    pairs = [
        Factors(name.replace(f".{down}.", f".{up}."), name)
        for down, up in PRODUCTS.get(peft_type, ())
        for name in sorted(all_names)
        if f".{down}." in name
    ]
    return [pair for pair in pairs if pair.up in all_names]
