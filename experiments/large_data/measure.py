"""Memory of a run on a large file, JSON Lines or Parquet, beside the size of the file.

    python experiments/large_data/measure.py --gib 1
    python experiments/large_data/measure.py --gib 1 --format parquet
    python experiments/large_data/measure.py --gib 5 --folder large --keep      # goes on where it was killed

writes a file of random words to a temporary folder, trains a tiny BERT on it for a few steps, and prints a line of
JSON: the size of the file and of its encoding; the memory of the process before it reads the data, and the most that it
has: its own, which must fit in the memory of the machine, and with the pages of files, which the system takes back when
it needs them; and the time of the processor. The size that is asked for is that of the rows as JSON Lines.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np

WORDS, LENGTH = 5000, 150
"""Different words, and words in a text: about a kilobyte."""
STEPS = 5


def rows(size: float, seed: int) -> Iterator[list[dict[str, str]]]:
    """Yield random texts with one of ten labels, a thousand at once, until they have `size` bytes as JSON lines."""
    random = np.random.default_rng(seed)
    words = np.asarray([f"word{number}" for number in range(WORDS)])
    written = 0
    while written < size:
        texts = words[random.integers(0, WORDS, (1000, LENGTH))].tolist()
        thousand = [{"text": " ".join(row), "label": row[0][-1]} for row in texts]
        written += sum(len(json.dumps(row)) + 1 for row in thousand)
        yield thousand


def write_json_lines(path: Path, size: float, seed: int) -> None:
    """Write `rows`."""
    with path.open("w") as file:
        for thousand in rows(size, seed):
            file.writelines(json.dumps(row) + "\n" for row in thousand)


def write_parquet(path: Path, size: float, seed: int) -> None:
    """Write `rows`, as one row group each 50,000."""
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema({"text": pyarrow.string(), "label": pyarrow.string()})
    thousands = rows(size, seed)
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(itertools.islice(thousands, 50)):
            writer.write_table(pyarrow.Table.from_pylist(list(itertools.chain(*group)), schema))


FORMATS = {"jsonl": ("json_lines", write_json_lines), "parquet": ("rows", write_parquet)}
"""The option of ``data`` that reads a format, and what writes it, by the suffix of its files."""


def make_model(folder: Path) -> Path:
    """Make a BERT of one layer and hidden size 32, and a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(WORDS))]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), names, strict=False))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)  # one that goes on is the same model
    BertModel(BertConfig(vocab_size=len(names), **sizes)).save_pretrained(folder)
    return folder


class Peak(threading.Thread):
    """Notes the largest memory of this process, in MiB, ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = self.with_files = 0.0

    def run(self) -> None:
        """Read what the kernel says (Linux)."""
        while True:
            lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
            kib = {line[0]: int(line[1]) for line in lines if len(line) == 3 and line[2] == "kB"}
            self.own = max(self.own, kib["RssAnon:"] / 1024)
            self.with_files = max(self.with_files, kib["VmRSS:"] / 1024)
            time.sleep(0.1)


def train(folder: Path, option: str, data: Path, run: Path) -> dict[str, float]:
    """Train for a few steps; return the memory before the data is read, and the peaks."""
    import peftlab

    model = make_model(folder / "model")
    overrides = (
        *("task=classification", f"data={option}", f"data.path={data}", "data.max_tokens=256", "peft=head"),
        *("model=folder", f"model.path={model}", "trainer=cpu", "trainer.precision=32-true", "logger=[]"),
        *("budget=smoke", f"budget.max_steps={STEPS}", "budget.train_examples=null", "budget.eval_examples=100"),
        f"run_dir={run}",
    )
    before, peak = Peak(), Peak()
    before.start()
    time.sleep(0.5)
    start = before.own
    peak.start()
    peftlab.run(*overrides)
    return {"before_mib": round(start), "own_mib": round(peak.own), "with_files_mib": round(peak.with_files)}


def main() -> None:
    """Write, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--gib", type=float, default=1.0, help="size of the training rows as JSON Lines (default: %(default)s)"
    )
    parser.add_argument("--format", choices=FORMATS, default="jsonl", help="of the files (default: %(default)s)")
    parser.add_argument("--single", action="store_true", help="one file, of which validation and test are held out")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made (default: the system's)")
    parser.add_argument(
        "--keep", action="store_true", help="keep the files, cache and run in --folder, and go on there"
    )
    arguments = parser.parse_args()
    if arguments.keep and arguments.folder is None:
        parser.error("--keep needs --folder")
    kept = nullcontext(arguments.folder) if arguments.keep else tempfile.TemporaryDirectory(dir=arguments.folder)
    with kept as name:
        folder = Path(name).absolute()
        os.environ["PEFTLAB_CACHE"] = str(folder / "cache")
        data = folder / arguments.format
        data.mkdir(parents=True, exist_ok=True)
        option, write = FORMATS[arguments.format]
        sizes = {"train": arguments.gib * 2**30} | ({} if arguments.single else {"dev": 2**20, "test": 2**20})
        for seed, (split, size) in enumerate(sizes.items()):
            file = data / f"{split}.{arguments.format}"
            if not file.exists():  # a kept one is whole
                write(part := folder / "part", size, seed)
                part.rename(file)
        file = data / f"train.{arguments.format}"
        size = file.stat().st_size
        begin = resource.getrusage(resource.RUSAGE_SELF)
        measured = train(folder, option, file if arguments.single else data, folder / f"run-{arguments.format}")
        end = resource.getrusage(resource.RUSAGE_SELF)
        cpu = end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime
        encoded = sum(file.stat().st_size for file in (folder / "cache/encoded").iterdir())
        mib = {"file_mib": round(size / 2**20), "encoded_mib": round(encoded / 2**20)}
        print(
            json.dumps(
                {"format": arguments.format, **mib, **measured, "cpu_seconds": round(cpu), "single": arguments.single}
            )
        )


if __name__ == "__main__":
    main()
