"""Files of JSON: an object a line, or one document such as SQuAD's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peftlab.data.masked.tally import Tally
from peftlab.data.text_files import lines_from, opened, read_text
from peftlab.errors import DataError
from peftlab.personal_data.objects import masked_object


def masked_json_lines(path: Path, tally: Tally) -> Iterator[bytes]:
    """Yield a line for each line; one without personal data as it was."""
    with opened(path) as file:
        for number, line in enumerate(lines_from(file, str(path)), start=1):
            yield f"{_masked(line, f'{path}:{number}', tally) if line.strip() else line}\n".encode()


def masked_json(path: Path, tally: Tally) -> Iterator[bytes]:
    """Yield the document; of several objects, one a line, each of them."""
    content = read_text(path)
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        yield from masked_json_lines(path, tally)
    else:
        yield _masked(content, str(path), tally).encode()


def _masked(text: str, place: str, tally: Tally) -> str:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: is no JSON ({error}). Mend the line, or name the format: --format") from None
    masked = masked_object(value, lambda key: tally.of(key or "(whole)", place))
    return text if masked == value else json.dumps(masked, ensure_ascii=False)
