"""Computes the activations of frozen layers once, keeps them on disk, and trains from them.

If no layer up to some point is trained or random, its output is the same in every epoch, and in every run that
differs only above it: in the seed, the learning rate, the head.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from peftlab.data.module import DataModule
from peftlab.devices.rounding import rounding_of
from peftlab.devices.spec import AUTOCAST, TrainerSpec
from peftlab.errors import ConfigError, DiskError
from peftlab.regularizers.regularizer import key_of
from peftlab.runs.record import RunRecord
from peftlab.seams.transformers import attention_of
from peftlab.sources import ANOTHER_CACHE, cache_root
from peftlab.speed.border import STATES, Border, NoBorderError, find_border, starting_from, watching
from peftlab.storage.atomic import is_torn, replacing
from peftlab.storage.tensors import sha256_of
from peftlab.tasks.batch import Batch

log = logging.getLogger("peftlab")

FORMAT = 2
"""Raise it when the meaning of the stored tensors changes."""

_NO_DIGEST = "0" * 64
"""The placeholder for the digest in a header."""

TYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
"""The names in safetensors for the dtypes of activations."""


def choose_border(
    trainer: TrainerSpec, model: nn.Module, data: DataModule, needing: Mapping[str, str] = MappingProxyType({})
) -> Border | None:
    """Return the border that training starts from, or None; log the settings that would allow one.

    Args:
        trainer: says whether a border is wanted.
        model: the model to train.
        data: its training data.
        needing: the regularisers for which no layer may be skipped, by name, each with its reason.

    Raises:
        ConfigError: `trainer.cache_activations` is true, and there is no border.
    """
    if trainer.cache_activations is False or data.budget.max_steps == 0:
        return None
    try:
        if trainer.world_size > 1:
            raise NoBorderError("works on one device; set trainer.devices=1, or leave it at auto")
        for name, reason in needing.items():
            raise NoBorderError(f"{key_of(name)} {reason}; leave one of them out")
        if data.augmenter is not None:
            raise NoBorderError("augment changes the texts in every epoch; leave it out")
        if data.task.draws_inputs:
            raise NoBorderError(f"task={data.task.name} draws the model's inputs anew in every epoch")
        if data.task.packs:
            raise NoBorderError("task.packing lays several examples into a row; set task.packing=off")
        if trainer.compile:
            raise NoBorderError("a compiled model starts at its beginning; set trainer.compile=false")
        border = find_border(model, data.short_and_long(), AUTOCAST.get(trainer.precision))
        gib = sum(_bytes(border, data.splits[split].encoded.tokens) for split in data.used) / 2**30
        if gib > trainer.activation_cache_gib:
            raise NoBorderError(
                f"they take {gib:.2g} GiB of disk, more than trainer.activation_cache_gib="
                f"{trainer.activation_cache_gib:g}",
                avoidable=True,
            )
    except NoBorderError as reason:
        if trainer.cache_activations is True:
            raise ConfigError(f"trainer.cache_activations=true: {reason}") from reason
        if reason.avoidable:
            log.info("activations of frozen layers are computed in every epoch: %s", reason)
        return None
    return border


@contextmanager
def from_activations(
    border: Border | None,
    model: nn.Module,
    data: DataModule,
    trainer: TrainerSpec,
    record: RunRecord,
    let_through: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """In this context, `data` adds activations at `border` to every batch, and `model` starts from them.

    They are read from disk, or computed and written there, as the record's ``cost`` states. If the disk cannot be
    written, the record's history says so, and training runs without a border.

    `let_through` is called repeatedly meanwhile, and may raise to end the run.
    """
    if border is None:
        yield
        return
    began = time.perf_counter()
    cache = ActivationCache(border, model, data, trainer, let_through)
    try:
        recalls = {split: cache.recall(split) for split in data.used}
    except (DiskError, OSError) as error:
        log.warning("going on without keeping activations: %s", error)
        record.event("activations_not_cached", reason=str(error))
        yield
        return
    about = {
        "layers": border.layers,
        "of_layers": border.of_layers,
        "gib": round(sum(recall.states.nbytes for recall in recalls.values()) / 2**30, 4),
        "computed": cache.computed,
        "seconds": round(time.perf_counter() - began, 3),
    }
    record.update(cost={"activation_cache": about})
    log.info(
        "training starts above %d of %d layers, from %.2f GiB of activations on disk (%s; %.0f s)",
        *(about["layers"], about["of_layers"], about["gib"]),
        f"computed: {', '.join(cache.computed)}" if cache.computed else "all cached",
        about["seconds"],
    )
    data.recall = recalls
    try:
        with starting_from(border, model):
            yield
    finally:
        data.recall = {}


class Recall:
    """The activations of a split, in a memory-mapped file of which a batch reads only its own part."""

    def __init__(self, path: Path, tokens: np.ndarray) -> None:
        """Open `path` and check its content.

        Args:
            path: the file, named after the fingerprint of its split.
            tokens: number of tokens of each example, over all its rows, shape (examples,).

        Raises:
            ValueError: its bits have changed, or it belongs to another split.
        """
        with safe_open(path, framework="pt") as file:
            self.states: Tensor = file.get_tensor("states")
            metadata = file.metadata() or {}
        if metadata.get("name") != path.stem:
            raise ValueError("it was written under another name")
        if metadata.get("sha256") != sha256_of({"states": self.states}):
            raise ValueError("its bits have changed since it was written")
        self.ends = np.cumsum(tokens).tolist()
        self.starts = [0, *self.ends[:-1]]
        if len(self.states) != self.ends[-1]:
            raise ValueError(f"{len(self.states)} tokens, and the split has {self.ends[-1]}")

    def __call__(self, batch: Batch, examples: Sequence[int]) -> None:
        """Add `STATES` to the inputs of `batch`, which was collated from `examples`; padding has zeros."""
        real = batch.inputs["attention_mask"].bool()
        states = self.states.new_zeros(*real.shape, self.states.shape[1])
        states[real] = torch.cat([self.states[self.starts[i] : self.ends[i]] for i in examples])
        batch.inputs[STATES], batch.padding[STATES] = states, 0


class ActivationCache:
    """The safetensors files of one border, one per split."""

    def __init__(
        self,
        border: Border,
        model: nn.Module,
        data: DataModule,
        trainer: TrainerSpec,
        let_through: Callable[[], None] = lambda: None,
    ) -> None:
        self.border, self.model, self.data, self.trainer, self.let_through = border, model, data, trainer, let_through
        self.device = torch.device("cuda" if trainer.accelerator == "gpu" else "cpu")
        self.computed: list[str] = []
        """The splits that had to be computed."""

    def recall(self, split: str) -> Recall:
        """Return the activations of `split`, from disk where they are there, else computed.

        If several runs ask for the same ones at once, one computes them and the others wait.

        Raises:
            DiskError, OSError: the file cannot be written.
        """
        path = folder() / f"{self.fingerprint(split)}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        tokens = self.data.splits[split].encoded.tokens
        with self._alone(path.with_suffix(".lock")):
            if path.is_file():
                try:
                    recall = Recall(path, tokens)
                    os.utime(path)
                    return recall
                except (SafetensorError, OSError, ValueError) as error:
                    log.warning("%s cannot be read (%s); computing it again", path, error)
            make_room(_bytes(self.border, tokens), self.trainer.activation_cache_gib)
            log.info("computing the activations of the %s split below the trained layers", split)
            with replacing(path, _bytes(self.border, tokens), ANOTHER_CACHE) as temporary:
                with temporary.open("wb") as file:
                    self._write(split, tokens, file, path.stem)
                _note_digest(temporary)
            self.computed.append(split)
            return Recall(path, tokens)

    def _alone(self, path: Path) -> AbstractContextManager[Any]:
        """Wait for the lock `path` and return it; leaving its context releases it."""
        while True:
            self.let_through()
            with suppress(Timeout):
                return FileLock(path).acquire(timeout=1)

    def fingerprint(self, split: str) -> str:
        """Return a digest of everything that the bits of the activations depend on."""
        encoded = self.data.splits[split].encoded
        config: Any = self.model.config
        parts = [
            FORMAT,
            self.border.sha256,
            [type(module).__name__ for module in self.border.below],
            config.to_json_string(),
            attention_of(self.model),
            sha256_of({name: torch.from_numpy(array) for name, array in encoded.arrays.items()}),
            self.data.spec.eval_batch_size,
            self.trainer.precision,
            *(["tf32"] if self.trainer.tf32 else []),
            *(["cudnn attention"] if self.device.type == "cuda" and self.trainer.cudnn_attention else []),
            *rounding_of(self.device),
        ]
        if self.data.static is not None:  # rows of other widths round differently
            parts.append(f"static shapes up to {self.data.static.most}")
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _write(self, split: str, tokens: np.ndarray, file: BinaryIO, name: str) -> None:
        """Write the file in pieces, since a split may not fit in memory.

        The batches are those of an evaluation, which then gets the same bits as it would compute itself.
        """
        task, members, static = self.data.task, self.data.splits[split], self.data.static
        starts = np.cumsum(tokens) - tokens
        base = 0
        dtype = AUTOCAST.get(self.trainer.precision)
        autocast = torch.autocast(self.device.type, dtype, enabled=dtype is not None)
        self.model.to(self.device).eval()
        with torch.inference_mode(), autocast, watching(self.border) as seen:
            for examples in self.data.evaluation_batches(split):
                self.let_through()
                batch = task.collate(members.examples, members.encoded, examples)
                inputs = (batch if static is None else static.padded(batch)).to(self.device).inputs
                self.model(**inputs)
                states = seen[-1][inputs["attention_mask"].bool()].cpu()
                seen.clear()  # a block that is called several times, as in ALBERT, adds as many
                if not base:
                    base = file.write(_header(name, states.dtype, (int(tokens.sum()), states.shape[1])))
                for i, piece in zip(examples, torch.split(states, tokens[examples].tolist()), strict=True):
                    file.seek(base + int(starts[i]) * states[0].nbytes)
                    file.write(piece.view(torch.uint8).numpy().data)


def _note_digest(path: Path) -> None:
    """Write the digest of the ``states`` into the header of `path`; they were written in pieces, in any order."""
    with safe_open(path, framework="pt") as file:
        digest = sha256_of({"states": file.get_tensor("states")})
    with path.open("r+b") as file:
        place = file.read(len(_NO_DIGEST) + 1000).index(_NO_DIGEST.encode())
        file.seek(place)
        file.write(digest.encode())


def folder() -> Path:
    """Return the folder of the cache."""
    return cache_root() / "activations"


def make_room(size: int, gib: float) -> None:
    """Remove the least recently used files until `size` more bytes fit within `gib` GiB.

    Other runs may make room, or write, at the same time: what they are writing counts, and stays.
    """
    room, whole = gib * 2**30 - size, []
    for path in folder().glob("*.safetensors*"):
        with suppress(FileNotFoundError):  # another run has just removed it
            state = path.stat()
            room -= state.st_size
            whole += [] if is_torn(path) else [(state.st_mtime, state.st_size, path)]
    for _, bytes_of_file, path in sorted(whole):
        if room >= 0:
            break
        room += bytes_of_file
        log.info("trainer.activation_cache_gib=%g: removing %s", gib, path)
        path.unlink(missing_ok=True)  # runs that have it mapped keep it


def _bytes(border: Border, tokens: np.ndarray) -> int:
    return int(tokens.sum()) * border.hidden * border.dtype.itemsize


def _header(name: str, dtype: torch.dtype, shape: tuple[int, int]) -> bytes:
    """Return the header of a safetensors file with one tensor, ``states``, and a placeholder for its digest."""
    tensor = {"dtype": TYPES[dtype], "shape": shape, "data_offsets": [0, math.prod(shape) * dtype.itemsize]}
    text = json.dumps({"__metadata__": {"sha256": _NO_DIGEST, "name": name}, "states": tensor}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
