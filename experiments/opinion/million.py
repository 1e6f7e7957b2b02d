"""How long do a million labels take, from the file to the page?

python experiments/opinion/million.py [--rows 1000000]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LABELS = np.array(["negative", "neutral", "positive"])
TOPICS = np.array(["business", "entertainment", "politics", "sports", "tech"])


def write(file: Path, rows: int) -> None:
    """Write rows over 90 days, with a text, two labels and their probabilities; on the last 10 days anger rises."""
    random = np.random.default_rng(0)
    seconds = np.sort(random.uniform(0, 90 * 86400, rows))
    shares = np.where((seconds > 80 * 86400)[:, None], [0.33, 0.37, 0.3], [0.3, 0.4, 0.3]).cumsum(1)
    opinions = LABELS[(random.random((rows, 1)) > shares).sum(1).clip(0, 2)]
    topics, sure = TOPICS[random.integers(0, 5, rows)], random.uniform(0.4, 1, (rows, 2)).round(3)
    times = (np.datetime64("2026-01-01T00:00:00") + seconds.astype("timedelta64[s]")).astype(str)
    with file.open("w") as out:
        for n in range(rows):
            row = {
                "at": times[n] + "Z",
                "text": f"some words about number {n} that somebody has written",
                "topic": topics[n],
            }
            row |= {"topic_probability": sure[n, 0], "opinion": opinions[n], "opinion_probability": sure[n, 1]}
            out.write(json.dumps(row) + "\n")


def main() -> None:
    """Write the file, and time the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stream, config = Path(folder, "scores.jsonl"), Path(folder, "watch.yaml")
        write(stream, options.rows)
        config.write_text("{correction: none, names: [topic, opinion]}\n")
        command = [sys.executable, "-W", "ignore", "-m", "peftlab", "watch", "--scored", "--stream", str(stream)]
        command += ["--time", "at", "--text", "text", "--config", str(config), "--out", str(Path(folder, "watch"))]
        began = time.perf_counter()
        subprocess.run([*command, "--final"], check=True)
        wall, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        size, cpu = stream.stat().st_size / 2**20, used.ru_utime + used.ru_stime
        print(f"{options.rows:,} rows of {size:.0f} MiB: {wall:.1f} s, of which the CPU {cpu:.1f} s")
        print(f"at most {used.ru_maxrss / 2**20:.2f} GiB of memory")


if __name__ == "__main__":
    main()
