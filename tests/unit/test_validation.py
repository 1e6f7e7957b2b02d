"""What a message says of a wrong value: where it stands, and what is allowed there."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

import pytest
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.errors import ConfigError
from peftlab.validation import checked

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid"))


@spec
class Inner:
    with_: str = Field(default="tag", alias="with")
    share: float = 0.5


@spec
class Other:
    size: int = 3


@spec
class Outer:
    inner: Inner | None = None
    several: list[Inner] = field(default_factory=list)
    one_of: Inner | Other | None = None
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"inner": {"shar": 1}}, "there is no key 'x.inner.shar'. Did you mean 'share'? Allowed: share, with"),
        ({"several": [{"shar": 1}]}, "there is no key 'x.several.0.shar'. Did you mean 'share'? Allowed: share, with"),
        ({"inner": "tag"}, "x.inner = 'tag': should be a section of keys and values: with, share."),
        ({"one_of": 3}, "x.one_of = 3: should be a section of keys and values."),
        ({"devices": 0}, "x.devices = 0: should be greater than or equal to 1, or should be one of auto."),
    ],
    ids=str,
)
def test_a_wrong_value_is_told_by_its_key_with_what_is_allowed(values, said):
    with pytest.raises(ConfigError) as error:
        checked(Outer, values, "x")
    assert str(error.value) == said
