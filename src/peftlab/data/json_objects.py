"""The JSON objects of single lines, and what is wrong with a line that is none."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from peftlab.errors import DataError


class _Object(dict[str, Any]):
    """A JSON object with a list of its `repeated` keys, of which the last one counts."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: list[str] = []
        if len(self) < len(pairs):
            times = Counter(key for key, _ in pairs)
            self.repeated = sorted(key for key in times if times[key] > 1)


def read_object(line: str, where: str, expected: str, following: Iterable[str]) -> dict[str, Any]:
    """Return the JSON object in a line.

    Args:
        line: the line.
        where: its file and number, at the start of messages.
        expected: description of the expected object, for messages.
        following: the lines after it, to explain an object that spans several; read only if this one breaks off.

    Raises:
        DataError: it is not JSON, not an object, or has a repeated key.
    """
    try:
        one = json.loads(line, object_pairs_hook=_Object)
    except RecursionError:
        raise DataError(f"{where}: is JSON that is nested too deeply. Write flat objects.") from None
    except ValueError as error:
        raise DataError(f"{where}: is not JSON ({error}). {_way_out(line, following)}") from None
    if isinstance(one, list) and one and all(isinstance(each, dict) for each in one):
        raise DataError(f"{where}: is an array of {len(one)} objects. {_ARRAY}")
    if not isinstance(one, _Object):
        raise DataError(f"{where}: is not a JSON object. Write one a line, {expected}.")
    if one.repeated:
        raise DataError(f"{where}: the key '{one.repeated[0]}' appears twice. Remove one of them.")
    return one


_ARRAY = "Write one object a line: `jq -c '.[]' FILE` does."
_SEVERAL = "Write one object a line: `jq -c . FILE` does."


def _way_out(line: str, following: Iterable[str]) -> str:
    """Return advice on a line that is not JSON by itself.

    Of the lines after it, only so many are read as it may go over: a stream may not have sent them yet.
    """
    begun, further, read = line.lstrip(), iter(following), 0
    while True:
        try:
            one, end = json.JSONDecoder().raw_decode(begun)
            break
        except (ValueError, RecursionError) as error:
            # what is wrong before the end of what is read is not mended by what follows
            cut = isinstance(error, json.JSONDecodeError) and 0 < len(begun.rstrip()) <= error.pos
            more = list(itertools.islice(further, min(1 + read // 8, _FOLLOWING - read))) if cut else []
            if not more:
                return "Write one object a line."
            begun, read = "\n".join([begun, *more]), read + len(more)
    lines = begun.count("\n", 0, end) + 1
    if lines > 1:
        what = "array" if isinstance(one, list) else "object"
        return f"The {what} that begins here goes over {lines} lines. {_ARRAY if isinstance(one, list) else _SEVERAL}"
    rest = line.lstrip()[end:].strip()
    return "Leave out the comma after the object." if rest == "," else f"There is more than one value in it. {_SEVERAL}"


_FOLLOWING = 1_000_000
"""The most lines read after one that is cut short."""
