"""The transformers pipeline on the same texts: prints the seconds that the answers took as JSON.

experiments/serving/pipeline.py EXPORTED TEXTS BATCH THREADS
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline


def main() -> None:
    """Answer all texts, one by one or in batches."""
    folder, file, batch, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    texts = [line for line in Path(file).read_text(encoding="utf-8").split("\n") if line]
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    answer = pipeline("token-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
    answer(texts[:8], batch_size=int(batch))
    begun, cpu = time.perf_counter(), time.process_time()
    if int(batch) == 1:
        for text in texts:
            answer(text)
    else:
        answer(texts, batch_size=int(batch))
    seconds = time.perf_counter() - begun
    print(json.dumps({"texts": len(texts), "seconds": seconds, "cpu": time.process_time() - cpu}))


if __name__ == "__main__":
    main()
