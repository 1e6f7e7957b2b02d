"""Prints the tables of this study's ladders: ``summarise.py FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

for page in sorted(Path(sys.argv[1]).glob("*/ladder.md")):
    print(f"## {page.parent.name}\n\n{page.read_text(encoding='utf-8').partition(chr(10))[2].strip()}\n")
    if (alone := page.with_name("alone.json")).is_file():
        of = json.loads(alone.read_text())
        gain = f"{of['gain']:+.4f} ({of['low']:+.4f} to {of['high']:+.4f})"
        print(f"The same layers trained for as long without a teacher: {of['alone']:.4f}; the teacher adds {gain}.\n")
