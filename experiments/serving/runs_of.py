"""Prints the completed runs in a folder; or, with ``--texts RUN``, the sentences of its test split, one a line."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Print them."""
    if sys.argv[1] == "--texts":
        for line in (Path(sys.argv[2]) / "predictions" / "test.jsonl").read_text(encoding="utf-8").splitlines():
            words = json.loads(line)["input"]
            text = " ".join(words) if isinstance(words, list) else str(words)
            if text.strip() and "\n" not in text:
                print(text)
        return
    runs = sorted(file.parent for file in Path(sys.argv[1]).glob("*/record.json"))
    completed = [run for run in runs if json.loads((run / "record.json").read_text())["status"] == "completed"]
    if not completed:
        raise SystemExit(f"{sys.argv[1]}: no completed run: peftlab train +experiment=ner_lora seed=0,1,2,3")
    print("\n".join(str(run.absolute()) for run in completed))


if __name__ == "__main__":
    main()
