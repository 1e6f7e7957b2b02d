"""The option ``data.mask_pii``: what a run masks in its examples as it reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.errors import ConfigError
from peftlab.personal_data.key import digest_of, read_key
from peftlab.personal_data.masker import Masker

_Kinds = Annotated[list[str], Field(min_length=1)]


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class MaskPii:
    """What is masked in every text of every split; the model, its predictions and its record see nothing else."""

    kinds: _Kinds | None = None
    """What is looked for, such as ``email``; None: every kind that a pattern finds."""
    with_: Literal["tag", "surrogate", "refuse"] = Field(default="tag", alias="with")
    """What stands in its place: its kind, another value in its form, or nothing: the data is refused."""
    key: Path | None = None
    """The file of the secret that surrogates follow from; the run's identity has its digest."""
    regions: _Kinds | None = None
    """The countries whose telephone and identity numbers are looked for; None: those of `masker.REGIONS`."""

    def __post_init__(self) -> None:
        """Check that the options belong together and are known."""
        if (self.with_ == "surrogate") != (self.key is not None):
            raise ValueError("with=surrogate and key=FILE belong together: surrogates follow from a key")
        if "name" in (self.kinds or ()):
            raise ValueError(
                "kinds: 'name' needs a run that finds names, and data.mask_pii asks no other run. Leave it out here "
                "and mask the files first: peftlab mask DATA --out MASKED --names RUN, then data.path=MASKED"
            )
        try:
            Masker(kinds=tuple(self.kinds or ()), regions=tuple(self.regions or ()))
        except ConfigError as error:
            raise ValueError(str(error)) from error

    @property
    def has_regions(self) -> bool:
        """Whether what is found depends on the regions."""
        return Masker(kinds=tuple(self.kinds or ())).has_regions

    def masker(self) -> Masker:
        """Return what masks texts.

        Raises:
            ConfigError: the key cannot be read.
        """
        key = None if self.key is None else read_key(self.key)
        return Masker(tuple(self.kinds or ()), self.with_, key, tuple(self.regions or ()))

    def key_digest(self) -> str | None:
        """Return the digest of the key; None: there is none. Raises ConfigError: it cannot be read."""
        return None if self.key is None else digest_of(read_key(self.key))

    def resolved(self) -> dict[str, Any]:
        """Return these options as they act: all kinds and regions, and an absolute path."""
        masker = Masker(kinds=tuple(self.kinds or ()), regions=tuple(self.regions or ()))
        options = {"kinds": list(masker.kinds), "with": self.with_, "regions": list(masker.regions)}
        return options if self.key is None else {**options, "key": str(self.key.expanduser().absolute())}
