"""Print how long one answer of `peftlab serve` with stored answers takes, on this machine: p50, p95 and p99.

    python latency.py RUN INDEX [--requests 500] [--threads 2] [--retriever hybrid] [--far FILE]

A caller on loopback asks one question after the other over one connection. Half of them are of the run's own test
split, half from FILE, so that stored answers are searched for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from itertools import chain, cycle, islice
from pathlib import Path

import httpx
import numpy as np


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("index", type=Path)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--retriever", default="hybrid", choices=("bm25", "dense", "hybrid"))
    parser.add_argument("--far", type=Path, default=Path("examples/customer_service/far.txt"))
    options = parser.parse_args()
    lines = (options.run / "predictions" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    own = [json.loads(line)["input"] for line in lines]
    far = options.far.read_text(encoding="utf-8").splitlines()
    asked = list(islice(chain.from_iterable(zip(cycle(own), cycle(far), strict=False)), options.requests + 20))
    command = [sys.executable, "-m", "peftlab", "serve", str(options.run), "--fallback", str(options.index)]
    options_of_server = ["--retriever", options.retriever, "--port", "0", "--json", "--threads", str(options.threads)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*command, *options_of_server], text=True, **pipes) as server:
        try:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["url"]
            with httpx.Client(base_url=url, timeout=30) as client:
                times, stored = [], 0
                for text in asked:
                    began = time.perf_counter()
                    response = client.post("/v1/predict", json={"inputs": [text]}).raise_for_status()
                    times.append(1000 * (time.perf_counter() - began))
                    stored += "fallback" in response.json()["answers"][0]
        finally:
            server.terminate()
    p50, p95, p99 = np.percentile(times[20:], [50, 95, 99])
    print(f"{options.requests} answers, {stored} with stored ones: p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f} ms")


if __name__ == "__main__":
    main()
