"""Print texts that have nothing to do with a bank, one a line: sentences of reviews and newspapers, and tweets.

    python far.py VADER > far.txt

VADER is a folder with the files of Hutto & Gilbert 2014. From each of three files, every nth text of 20 to 200
characters, so that there are 500 of each.
"""

from __future__ import annotations

import sys
from pathlib import Path

EACH = 500
FILES = tuple(f"{name}_GroundTruth.txt" for name in ("amazonReviewSnippets", "tweets", "nytEditorialSnippets"))


def main() -> None:
    """Print them."""
    folder = Path(sys.argv[1])
    for name in FILES:
        (file,) = folder.rglob(name)
        texts = [line.split("\t")[-1].strip() for line in file.read_text("utf-8", "replace").splitlines()]
        texts = list(dict.fromkeys(text for text in texts if 20 <= len(text) <= 200))
        for text in texts[:: max(1, len(texts) // EACH)][:EACH]:
            print(text)


if __name__ == "__main__":
    main()
