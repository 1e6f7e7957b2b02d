"""How text is generated: its length, beams, sampling, and when a run generates at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_SAMPLING = ("temperature", "top_k", "top_p", "seed")
"""The options of sampling."""


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Generation:
    """Options of generation. Nothing else of a model's ``generation_config.json`` acts but its token ids."""

    max_new_tokens: int = Field(default=128, ge=1)
    """The most tokens of a text, the end token included."""
    num_beams: int = Field(default=1, ge=1)
    """Beams of a beam search; 1: greedy search, or sampling."""
    do_sample: bool = False
    """Whether each token is drawn from the model's distribution; else the most probable text is searched for."""
    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits that are sampled from: less is more deterministic."""
    top_k: int | None = Field(default=None, ge=1)
    """Sample among this many most probable tokens; None: among all."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Sample among the fewest most probable tokens with this total probability (Holtzman et al. 2020); None: all."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Divides positive logits, and multiplies negative ones, of tokens that have occurred (Keskar et al. 2019)."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of sampling; with the key of a text it determines all its draws."""
    at: Literal["final", "always", "never"] = "final"
    """When a run generates: in the evaluations that are kept, in every validation during training too, or never."""

    def __post_init__(self) -> None:
        """Check that one way to choose tokens is asked for."""
        if self.do_sample and self.num_beams > 1:
            raise ValueError(
                f"generate.num_beams={self.num_beams} searches and generate.do_sample=true draws: set num_beams=1 to "
                "sample, or do_sample=false to search"
            )

    def idle(self) -> Iterator[str]:
        """Yield the options of sampling that differ from their defaults although nothing is drawn.

        The other options act with ``at=never`` too, in what a finished run writes when it is used.
        """
        for name in () if self.do_sample else _SAMPLING:
            if getattr(self, name) != getattr(_DEFAULTS, name):
                yield name


_DEFAULTS = Generation()
