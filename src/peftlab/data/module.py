"""The one LightningDataModule: fetches, reads, encodes and batches the splits of any data set for any task."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch.utils.data import DataLoader, Dataset

from peftlab.data.batches import Batches, Recall, Steps
from peftlab.data.batching import Division, TrainingBatches, in_order_of_length, plan
from peftlab.data.duplicates import repeated
from peftlab.data.encoded_cache import cached, fingerprint
from peftlab.data.held_out import hold_out
from peftlab.data.spec import BudgetSpec, DataSpec, Format
from peftlab.data.splits import SPLITS, Files, file_of, split_files
from peftlab.errors import ConfigError, DataError
from peftlab.reading.unicode_text import Door
from peftlab.seams.lightning import batches_done
from peftlab.tasks.batch import Batch
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Encoded, Task

log = logging.getLogger("peftlab")


@dataclass(config=ConfigDict(arbitrary_types_allowed=True))
class Split:
    """One split, read and encoded."""

    examples: list[Any]
    encoded: Encoded
    dropped: dict[str, int] = field(default_factory=dict)
    """Examples that were left out, by the reason."""
    rows: int = field(init=False)
    tokens: np.ndarray | None = field(default=None, init=False)
    """What `DataModule.tokens_of` has found: every example is collated for it."""

    def __post_init__(self) -> None:
        """Count the examples."""
        self.rows = len(self.examples)


class DataModule(L.LightningDataModule):
    """Training, validation and test batches of one data set.

    `load` does all reading, before a run folder exists; the loaders only cut batches, and of each this rank's parts.
    """

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        processor: Processor,
        budget: BudgetSpec,
        seed: int,
        division: Division | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.task, self.processor, self.budget, self.seed = spec, task, processor, budget, seed
        self.division = division or Division()
        self.splits: dict[str, Split] = {}
        self.files: Files = {}
        self.origin = ""
        self.source: dict[str, str] = {}
        self.licence: str | None = None
        self.sha256: dict[str, str] = {}
        self.train_test_overlap = 0
        self.reading: dict[str, dict[str, int]] = {}
        self.recall: Mapping[str, Recall] = {}
        self._position = (0, 0)

    def load(self) -> None:
        """Fetch, read, check and encode every split, and let the task learn its labels.

        Raises:
            SourceError, DataError, ConfigError: what is wrong with a source, a file or a name of a split.
        """
        self.task.bind(self.processor)
        fetched = self.spec.source.fetch()
        self.origin, self.licence, self.source = fetched.origin, fetched.licence, fetched.resolved
        self.files = split_files(self.spec.splits, fetched, takes_folders(self.spec.format))
        self.sha256 = {split: fetched.digest(file_of(self.files, split)) for split in self.files}
        own = {split: file for split, file in self.files.items() if isinstance(file, str)}
        examples = self._read({split: fetched.file(file) for split, file in own.items()})
        splits, dropped = self._divide(examples)
        train_texts = {_plain(self.task.text_key(example)) for example in splits["train"]}
        self.train_test_overlap = sum(_plain(self.task.text_key(example)) in train_texts for example in splits["test"])
        self._tell_shared_groups(splits)
        for split, members in splits.items():
            most = self.budget.train_examples if split == "train" else self.budget.eval_examples
            self.splits[split] = self._encode(_choose(members, most), dropped[split])
            self._tell_what_is_lost(split)
        if self.budget.overfit_batches is not None:
            self._overfit(self.budget.overfit_batches)
        self.task.settle(self.splits["train"].examples, self.splits["train"].encoded)

    def load_new(self, files: Mapping[str, Path]) -> None:
        """Read, check and encode `files`, by split, in place of the data set: whole, under the labels of `spec`.

        Raises:
            DataError: what is wrong with a file, or a label that is not among those.
        """
        self.task.bind(self.processor)
        examples = self._read(files)
        self.task.learn_labels({"train": [], **examples}, self.spec.labels)
        self.splits = {split: self._encode(members) for split, members in examples.items()}
        for split in self.splits:
            self._tell_what_is_lost(split)

    def _read(self, files: Mapping[str, Path]) -> dict[str, list[Any]]:
        """Return the examples in the files, by split.

        Raises:
            ConfigError: they are not what the task is about.
        """
        examples = self.spec.format.read(dict(files))
        for example in (members[0] for members in examples.values() if members):
            if not isinstance(example, self.task.example):
                raise ConfigError(
                    f"task={self.task.name} takes a {self.task.example.__name__} as an example, and data="
                    f"{self.spec.name} has a {type(example).__name__}: choose another data=..., or another task=..."
                )
        return {split: self._let_in(split, members) for split, members in examples.items()}

    def _let_in(self, split: str, examples: list[Any]) -> list[Any]:
        """Return `examples` as valid Unicode; what is odd about their text is told and counted.

        Raises:
            DataError: two examples have one id.
        """
        seen: dict[str, Any] = {}
        for example in examples:
            if (first := seen.setdefault(example.id, example)) is not example:
                places = " and ".join(getattr(each, "place", "") or repr(each)[:80] for each in (first, example))
                raise DataError(f"the {split} split has two examples with the id '{example.id}': {places}")
        counts = dict(getattr(examples, "counts", {}))
        if hasattr(self.task.example, "mapped"):
            door, odd = Door(), None
            valid = []
            for example in examples:
                valid.append(example.mapped(door))
                odd = odd or (example.place if door.findings else None)
            examples = valid
            counts |= {name: count for name, count in door.counts.items() if count}
            if odd:
                log.warning("the %s split has odd characters, the first at %s: %s", split, odd, door.findings)
        self.reading[split] = counts
        return examples

    def _divide(self, examples: Mapping[str, list[Any]]) -> tuple[dict[str, list[Any]], dict[str, dict[str, int]]]:
        """Leave duplicates out, let the task learn its labels, and hold out the splits that have no file.

        Returns:
            the examples of each split, and how many of each were left out, by the reason.
        """
        shares = {split: share for split, share in self.files.items() if isinstance(share, float)}
        splits: dict[str, list[Any]] = {split: [] for split in self.files}
        dropped: dict[str, dict[str, int]] = {split: {} for split in self.files}
        learnt: dict[str, list[Any]] = {}
        for file, members in examples.items():
            texts = [self.task.text_key(example) for example in members]
            left_out: dict[int, str] = {}
            if self.spec.duplicates == "drop":
                duplicates, conflicts = repeated(texts, [self.task.gold(example) for example in members])
                left_out = dict.fromkeys(duplicates, "duplicates") | dict.fromkeys(conflicts, "conflicts")
            learnt[file] = [example for n, example in enumerate(members) if n not in left_out]
            for reason in left_out.values():
                dropped[file][reason] = dropped[file].get(reason, 0) + 1
            kept = [n for n in range(len(members)) if n not in left_out]
            # near duplicates are looked for in what is left, for that is what must not leak
            places = [file] * len(kept)
            if file == "train" and shares:
                groups = [members[n].group for n in kept] if self._holds_out_groups else None
                places = hold_out([texts[n] for n in kept], shares, groups)
            for n, split in zip(kept, places, strict=True):
                splits[split].append(members[n] if split == file else replace(members[n], id=f"{split}:{n}"))
        self.task.learn_labels(learnt, self.spec.labels)  # held out or not: a rare label may be in one split only
        for split, members in splits.items():
            if not members:
                number = len({example.group for example in examples["train"]}) if self._holds_out_groups else 0
                whole = f", which are {number} group{'s' * (number > 1)} and held out by it," if number else ","
                raise DataError(
                    f"empty split '{split}': of {len(examples['train'])} examples in {self.files['train']}{whole} none "
                    f"is left for it; name a file or another share, data.splits.{split}=..."
                )
        return splits, {split: dict(sorted(reasons.items())) for split, reasons in dropped.items()}

    @property
    def _holds_out_groups(self) -> bool:
        return getattr(self.spec.format, "group", None) is not None

    def _tell_shared_groups(self, splits: Mapping[str, list[Any]]) -> None:
        """Tell which groups a model is scored on that it is trained on: files of their own may divide them."""
        if not self._holds_out_groups:
            return
        groups = {split: {example.group for example in members} for split, members in splits.items()}
        for split in ("validation", "test"):
            if shared := groups[split] & groups["train"]:
                n, of = len(shared), len(groups[split])
                log.warning("%d of %d groups of the %s split are in the training split too", n, of, split)

    def lost(self, split: str) -> dict[str, int]:
        """Return what the model does not see of `split`: counts, by what they count in words for people."""
        members = self.splits[split]
        lost = members.dropped | self.task.all_lost(members.encoded)
        return {what: count for what, count in lost.items() if count}

    def _tell_what_is_lost(self, split: str) -> None:
        limit = self.spec.max_tokens
        if lost := listed(self.lost(split)):
            log.info("left out of the %s split (data.max_tokens=%d): %s", split, limit, lost)
        if several := self.splits[split].encoded.counts.get("split_sentences"):
            log.info("longer than data.max_tokens=%d in the %s split: %s", limit, split, f"{several:,} split sentences")

    def _encode(self, examples: list[Any], dropped: dict[str, int] | None = None) -> Split:
        limits = self.spec.limits
        name = fingerprint(self.task, examples, self.processor, limits)
        encoded = cached(name, lambda: self.task.encode(examples, self.processor, limits))
        return Split(examples, encoded, dropped or {})

    def _overfit(self, batches: int) -> None:
        """Make the first training batches the training and the validation split."""
        whole = self.plan_of()
        chosen = [i for batch in whole[:batches] for i in batch]
        self.splits["train"] = self._encode([self.splits["train"].examples[i] for i in chosen])
        self.splits["validation"] = self.splits["train"]

    def resolved(self) -> dict[str, Any]:
        """Return what reading the data has settled: the entries of the configuration that were left open."""
        return {"splits": dict(self.files), "labels": self.task.declared_labels}

    def resolved_task(self) -> dict[str, Any]:
        """Return the same of the section `task`."""
        return self.task.settled()

    def steps_of_epoch(self) -> int:
        """Return the number of optimiser steps in an epoch."""
        return len(self._training_batches())

    def validation_interval(self) -> int:
        """Return the number of optimiser steps between validations."""
        return max(1, round(self.budget.validate_every * self.steps_of_epoch()))

    @property
    def longest(self) -> int:
        """The most tokens that a row of any split has."""
        return max(int(split.encoded.lengths.max()) for split in self.splits.values())

    @property
    def evaluated(self) -> list[str]:
        """The splits that the model sees."""
        return [split for split in SPLITS if split != "test" or self.budget.test]

    def tokens_of(self, split: str) -> np.ndarray:
        """Return the tokens of each example of `split`, over all its rows, shape (examples,)."""
        members = self.splits[split]
        if members.tokens is None:
            batches = [self.task.collate(members.examples, members.encoded, [i]) for i in range(members.rows)]
            members.tokens = np.asarray([batch.tokens for batch in batches])
        return members.tokens

    def short_and_long(self) -> dict[str, torch.Tensor]:
        """Return the inputs of a batch of two examples, the shortest one of the training split and its median."""
        members = self.splits["train"]
        order = np.argsort(members.encoded.lengths, kind="stable")
        chosen = [int(order[0]), int(order[len(order) // 2])]
        return self.task.collate(members.examples, members.encoded, chosen).inputs

    def calibration_batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the inputs of the first epoch's training batches, undivided: the same on any number of devices."""
        members = self.splits["train"]
        for batch in self.plan_of():
            yield self.task.collate(members.examples, members.encoded, batch).inputs

    def plan_of(self, epoch: int = 0) -> list[list[int]]:
        """Return the training examples of each optimiser step of `epoch`, undivided: the same on any devices."""
        encoded, spec = self.splits["train"].encoded, self.spec
        return plan(
            encoded.lengths, spec.batch_size, spec.bucket_batches, self.seed, epoch, spec.batch_tokens, encoded.rows
        )

    def describe(self) -> dict[str, Any]:
        """Return what the record says of the data."""
        return {
            "name": self.spec.name,
            "origin": self.origin,
            "splits": {
                name: {
                    # overfitting: train is both
                    "file": file_of(self.files, "train" if split is self.splits["train"] else name),
                    "rows": split.rows,
                    **split.encoded.counts,
                    **self.reading.get(name, {}),  # of the whole file, where splits are held out of it
                    "dropped": split.dropped,
                }
                for name, split in self.splits.items()
            },
            "labels": self.task.labels,
            "train_test_overlap": self.train_test_overlap,
            "licence": self.licence,
        }

    def state_dict(self) -> dict[str, int]:
        """Return how far the training has come: the epoch, and how many steps of its plan are done."""
        done = batches_done(self.trainer)  # type: ignore[arg-type]
        return {"epoch": self.trainer.current_epoch, "batches": done}  # type: ignore[union-attr]

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from there."""
        self._position = (state_dict["epoch"], state_dict["batches"])

    def transfer_batch_to_device(
        self, batch: Batch | list[Batch], device: torch.device, dataloader_idx: int
    ) -> Batch | list[Batch]:
        """Move the tensors of a batch; the parts of a step stay, for each is moved when its turn comes."""
        return batch.to(device) if isinstance(batch, Batch) else batch

    def halves(self, batch: Batch) -> list[Batch]:
        """Return the two halves of `batch`, collated anew: each is padded only to its own longest row."""
        part, dataset = batch.part, self._batches_of(batch.split)
        assert part is not None
        middle = (len(part.examples) + 1) // 2
        return [dataset[part._replace(examples=half)] for half in (part.examples[:middle], part.examples[middle:])]

    def train_dataloader(self) -> DataLoader[list[Batch]]:
        """Return the steps of the training, shuffled and length-bucketed: of each, this rank's parts."""
        batches = self._training_batches()
        batches.go_on(*self._position)  # before the workers begin, which fetch ahead
        return self._loader(Steps(self._batches_of("train")), batches)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches, the longest first."""
        return self._evaluation_loader("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test batches, the longest first."""
        return self._evaluation_loader("test")

    def _training_batches(self) -> TrainingBatches:
        encoded, spec = self.splits["train"].encoded, self.spec
        return TrainingBatches(
            encoded.lengths,
            spec.batch_size,
            spec.bucket_batches,
            self.seed,
            self.division,
            spec.batch_tokens,
            encoded.rows,
        )

    def _evaluation_loader(self, split: str) -> DataLoader[Batch]:
        return self._loader(self._batches_of(split), self.division.of_evaluation(self.evaluation_batches(split)))

    def evaluation_batches(self, split: str) -> list[list[int]]:
        """Return the examples of each batch in which a model is scored on `split`."""
        return in_order_of_length(self.splits[split].encoded.lengths, self.spec.eval_batch_size)

    def _batches_of(self, split: str) -> Batches:
        members = self.splits[split]
        return Batches(self.task, members.examples, members.encoded, split, self.seed, self.recall.get(split))

    def _loader(self, dataset: Dataset[Any], batches: Any) -> DataLoader[Any]:
        # The sampler yields whole batches of indices, so that Lightning finds its set_epoch
        return DataLoader(
            dataset,
            sampler=batches,
            batch_size=None,
            collate_fn=_as_it_is,  # by default torch looks into every list of a batch for arrays to convert
            num_workers=self.spec.workers,
            persistent_workers=self.spec.workers > 0,
            # of its own: a loader without one draws from the generator of dropout, how often depends on the workers
            generator=torch.Generator().manual_seed(self.seed),
        )


def _as_it_is(batch: Any) -> Any:
    return batch


def takes_folders(format: Format) -> bool:
    """Return whether a split is a folder in this format."""
    return bool(getattr(format, "takes_folders", False))


def listed(counts: Mapping[str, int]) -> str:
    """Return counts for people; nothing where all are zero."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def _plain(text: str) -> str:
    """Return `text` without what is no difference between two texts: letter case and white space."""
    return " ".join(text.casefold().split())


def _choose(examples: list[Any], most: int | None) -> list[Any]:
    """Return a fixed random choice of at most `most` examples, in their order."""
    if most is None or most >= len(examples):
        return examples
    chosen = np.random.default_rng(0).permutation(len(examples))[:most]
    return [examples[i] for i in sorted(chosen)]
