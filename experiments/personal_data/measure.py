"""How much of the planted personal data is found, and how much is found where there is none.

    python experiments/personal_data/measure.py texts.jsonl [--out results.json] [--names RUN] [--show 5]

A value counts as masked if not one letter or digit of it is left, whatever kind it was taken for; as named if it was
taken for its own kind. A false alarm is something found that shares no character with a planted value.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path

from scipy.stats import binomtest

from peftlab.personal_data.masker import Masker
from peftlab.terminal.output import table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("texts", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=int, default=0, help="how many misses and false alarms of each kind to print")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.texts.read_text(encoding="utf-8").splitlines()]
    masker, keyed = Masker(), Masker(with_="surrogate", key=b"the key of the measurement")
    planted, masked, named, alarms, again = (Counter[str]() for _ in range(5))
    by_language: Counter[tuple[str, str, bool]] = Counter()
    shown: Counter[str] = Counter()
    seconds = 0.0
    for row in rows:
        text, kind = row["text"], row["kind"]
        began = time.process_time()
        found = masker.find(text)
        seconds += time.process_time() - began
        value = range(row["start"], row["end"]) if kind else range(0)
        covered = {place for one in found for place in range(one.start, one.end)}
        if kind:
            planted[kind] += 1
            whole = all(place in covered for place in value if text[place].isalnum())
            masked[kind] += whole
            by_language[kind, row["language"], whole] += 1
            named[kind] += any(one.kind == kind and one.start < value.stop and one.end > value.start for one in found)
            if not whole and shown[kind] < options.show:
                shown[kind] += 1
                print("missed", kind, repr(text))
        for one in found:
            if not (kind and one.start < value.stop and one.end > value.start):
                alarms[one.kind] += 1
                if shown[f"-{one.kind}"] < options.show:
                    shown[f"-{one.kind}"] += 1
                    print("alarm", one.kind, repr(text[one.start : one.end]), "in", repr(text))
        surrogate = keyed.mask(text)
        again[kind or "-"] += bool(masker.find(surrogate.text))
    result = {}
    for kind, count in planted.items():
        interval = binomtest(masked[kind], count).proportion_ci(method="wilson")
        result[kind] = {
            "planted": count,
            "masked": masked[kind],
            "recall": masked[kind] / count,
            "low": interval.low,
            "high": interval.high,
            "named": named[kind] / count,
            "false_alarms": alarms[kind],
            "precision": named[kind] / max(1, named[kind] + alarms[kind]),
            "surrogates_found_again": again[kind],
            "by_language": {
                language: f"{by_language[kind, language, True]}/"
                f"{by_language[kind, language, True] + by_language[kind, language, False]}"
                for language in sorted({key[1] for key in by_language if key[0] == kind})
            },
        }
    head = ["kind", "planted", "masked", "recall", "95 %", "named", "false alarms", "precision", "again"]
    lines = [head]
    for kind, one in result.items():
        lines.append(
            [
                kind,
                str(one["planted"]),
                str(one["masked"]),
                f"{one['recall']:.3f}",
                f"{one['low']:.3f}-{one['high']:.3f}",
                f"{one['named']:.3f}",
                str(one["false_alarms"]),
                f"{one['precision']:.3f}",
                str(one["surrogates_found_again"]),
            ]
        )
    print(table(lines))
    for kind, one in result.items():
        print(kind, one["by_language"])
    print(f"{len(rows)} texts, {seconds / len(rows) * 1000:.2f} ms of CPU time each; other alarms: {dict(alarms)}")
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
