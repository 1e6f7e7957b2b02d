"""The LightningDataModule for every data set and task: encodes splits and serves their batches."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from peftlab.data.ahead import Ahead
from peftlab.data.augmentation.augmenter import Augmenter
from peftlab.data.augmentation.batches import AugmentedBatches
from peftlab.data.batches import Batches, Recall, Steps
from peftlab.data.batching import Division, Plan, TrainingBatches, in_order_of_length, plan
from peftlab.data.encoding import encode
from peftlab.data.listed import of_list
from peftlab.data.poisson import Poisson, PoissonPlan
from peftlab.data.reading import DataFacts, read_files
from peftlab.data.replay import read_with_memory, replay_of, with_memory
from peftlab.data.sampling import left_out, sampled
from peftlab.data.spec import BudgetSpec, DataSpec
from peftlab.data.splits import file_of
from peftlab.data.static_shapes import StaticShapes
from peftlab.errors import ConfigError, DataError
from peftlab.seams.lightning import batches_done
from peftlab.tasks.batch import Batch, Part
from peftlab.tasks.from_examples import Study
from peftlab.tasks.general_text import general_file
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Encoded, Task

log = logging.getLogger("peftlab")

AHEAD = 2
"""Batches that are collated ahead for a GPU: one that is waited for, and one in case the next takes longer."""


NO_STEPS: Any = [[]]
"""What an epoch of a federated run has in the place of batches: one step without parts."""


@dataclass
class Split:
    """One split, read and encoded."""

    examples: Sequence[Any]
    encoded: Encoded
    dropped: dict[str, int] = field(default_factory=dict)
    """Examples left out, by reason."""
    factors: np.ndarray | None = None
    """The factor on the weight of each example in the loss, shape (examples,); None: 1 for all."""
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        """Count the examples."""
        self.rows = len(self.examples)


class DataModule(L.LightningDataModule):
    """Training, validation and test batches of one data set.

    `load` does all the reading, before a run folder exists; the loaders only serve this rank's parts of each batch.
    """

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        processor: Processor,
        budget: BudgetSpec,
        seed: int,
        division: Division | None = None,
        augmenter: Augmenter | None = None,
        load_model: Callable[[Task], Any] | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.task, self.processor, self.budget, self.seed = spec, task, processor, budget, seed
        self.division = division or Division()
        self.splits: dict[str, Split] = {}
        self.facts, self.augmenter, self.load_model = DataFacts(), augmenter, load_model
        self.recall: Mapping[str, Recall] = {}
        self.static: StaticShapes | None = None
        """Pads all batches to a few shapes, and fills those of the training up; None: batches stay as they are."""
        self.ahead = 0
        """Batches that are collated before they are needed, in page-locked memory: for a GPU, see `AHEAD`."""
        self.clients: Mapping[str, np.ndarray] = {}
        """By name, the positions of each client's training examples; a step of the run is then a round of theirs."""
        self.sampling_of_clients: Poisson | None = None
        """Draws the clients of each round, in a private federation; None: as many in each."""
        self.poisson: Poisson | None = None
        """Draws the training batches, which differ in size; None: an epoch has every example once."""
        self.keeps_rest = False
        """Whether `rest` is kept, for a run that learns from texts beside the training split."""
        self.rest: Sequence[Any] = []
        """The training examples that the budget's sample leaves out."""
        self.aside: dict[str, Split] = {}
        """Examples that are none of the classes, by the name of their set, see `Aside`."""
        self._position = (0, 0)

    def load(self) -> None:
        """Fetch, read and encode every split, and let the task learn its labels.

        Raises:
            ConfigError: a fold is held out, but not tested; or as `read_data_set` raises.
            SourceError, DataError: as `read_data_set` raises them; or nothing is left to learn from.
        """
        if self.spec.fold is not None and not self.budget.test:
            raise ConfigError(
                f"data.fold={self.spec.fold}: the fold is held out to be tested, and budget.test=false tests nothing. "
                "Set budget.test=true"
            )
        self.task.bind(self.processor)
        splits, self.facts = read_with_memory(self.spec, self.task)
        taken = _studied(self, of_list(splits, self.budget.listed))
        for split, members in taken.items():
            used = with_memory(self.facts, split, members)
            self.splits[split] = self._encode(used, self.facts.dropped[split])
            if split == "train" and self.keeps_rest:
                self.rest = left_out(splits[split], [*members, *taken["validation"]])
            _log_left_out(self, split)
        self.aside = {name: self._encode(members) for name, members in self.facts.aside.items()}
        if self.budget.overfit_batches is not None:
            self._overfit(self.budget.overfit_batches)
        if factors := self.facts.factors:
            train = self.splits["train"]
            train.factors = np.asarray([factors.get(example.id, 1.0) for example in train.examples])
        self.task.settle(self.splits["train"].examples, self.splits["train"].encoded)
        for split in self.used:
            check_weights(self, split)
        if self.augmenter is not None:
            self.augmenter.prepare(self.splits["train"].examples)

    def load_new(self, files: Mapping[str, Path]) -> None:
        """Read and encode `files`, by split, in place of the data set: every example, with the labels of `spec`.

        Raises:
            DataError: a file is malformed, or has a label that is not one of these.
        """
        self.task.bind(self.processor)
        examples = read_files(self.spec, self.task, files).examples
        if self.spec.aside is not None:
            examples, apart = self.spec.aside.divided(examples, self.task)
            self.aside = {name: self._encode(members) for name, members in apart.items()}
        self.task.learn_labels({"train": [], **examples}, self.spec.labels)
        self.splits = {split: self._encode(members) for split, members in examples.items()}
        for split in self.splits:
            _log_left_out(self, split)

    def lost(self, split: str) -> dict[str, int]:
        """Return how much of `split` the model does not see, by a readable name of what is counted."""
        members = self.splits[split]
        lost = members.dropped | self.task.all_lost(members.encoded)
        return {name: count for name, count in lost.items() if count}

    def _encode(self, examples: Sequence[Any], dropped: dict[str, int] | None = None) -> Split:
        return Split(examples, encode(self.task, examples, self.processor, self.spec.limits), dropped or {})

    def _overfit(self, batches: int) -> None:
        """Use the first training batches as both training and validation split."""
        members = [i for batch in self.plan_of()[:batches] for i in batch]
        self.splits["train"] = self._encode([self.splits["train"].examples[i] for i in members])
        self.splits["validation"] = self.splits["train"]

    def resolved(self) -> dict[str, Any]:
        """Return the values that reading the data gave to open entries of the section `data` of the configuration."""
        resolved: dict[str, Any] = {"splits": dict(self.facts.files), "labels": self.task.declared_labels}
        if self.spec.clean is not None and self.spec.clean.label_errors_from is not None:
            resolved["clean"] = self.spec.clean.resolved()
        if self.spec.mask_pii is not None:
            resolved["mask_pii"] = self.spec.mask_pii.resolved()
        return resolved | replay_of(self.facts)

    def resolved_task(self) -> dict[str, Any]:
        """Return the same for the section `task`."""
        general = general_file(self.task)
        return self.task.settled() | ({} if general is None else {"forgetting": str(general)})

    def resolved_augment(self) -> dict[str, dict[str, Any]]:
        """Return the same for each augmentation in the section `augment`."""
        return {} if self.augmenter is None else self.augmenter.resolved()

    def steps_of_epoch(self) -> int:
        """Return the number of optimiser steps in an epoch."""
        return 1 if self.clients else len(self._training_batches())

    def validation_interval(self) -> int:
        """Return the number of optimiser steps between validations."""
        return max(1, round(self.budget.validate_every * self.steps_of_epoch()))

    @property
    def longest(self) -> int:
        """Tokens in the longest row of any split; augmented and unlabelled rows may be as long as the limit."""
        longest = max(int(split.encoded.lengths.max()) for split in self.splits.values())
        others = self.augmenter is not None or self.keeps_rest
        return max(longest, self.spec.max_tokens) if others else longest

    @property
    def used(self) -> list[str]:
        """The splits that the model is trained or scored on."""
        return ["train", *self.budget.scored]

    def short_and_long(self) -> dict[str, torch.Tensor]:
        """Return the inputs of a batch of two training examples: the shortest and the one of median length."""
        members = self.splits["train"]
        order = np.argsort(members.encoded.lengths, kind="stable")
        chosen = [int(order[0]), int(order[len(order) // 2])]
        return self.task.apart(members.examples, members.encoded, chosen).inputs

    def calibration_batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the inputs of the first epoch's training batches, undivided: the same for any number of devices."""
        members = self.splits["train"]
        for batch in self.plan_of():
            yield self.task.apart(members.examples, members.encoded, batch).inputs

    def plan_of(self, epoch: int = 0, members: np.ndarray | slice = slice(None)) -> Plan | PoissonPlan:
        """Return the training examples of each step of `epoch`, on all devices; their places among some `members`."""
        if self.poisson is not None:
            return self.poisson.plan(epoch)
        encoded, spec = self.splits["train"].encoded, self.spec
        lengths, rows = encoded.lengths[members], encoded.rows[members]
        return plan(lengths, spec.batch_size, spec.bucket_batches, self.seed, epoch, spec.batch_tokens, rows)

    @property
    def training_division(self) -> Division:
        """How training batches are divided, and filled up where shapes are static."""
        if self.static is None:
            return self.division
        return replace(self.division, full=0 if self.spec.batch_tokens else self.spec.batch_size)

    def describe(self) -> dict[str, Any]:
        """Return the `data` section of the record."""
        return _described(self)

    def read_as(self, split: str) -> str:
        """Return the split whose file `split` comes from: training, if it is a fold of it or overfitted."""
        is_fold = split == "test" and self.spec.fold is not None
        return "train" if is_fold or self.splits[split] is self.splits["train"] else split

    def state_dict(self) -> dict[str, int]:
        """Return the position of the training: the epoch, and the number of its steps that are done."""
        done = batches_done(self.trainer)  # type: ignore[arg-type]
        return {"epoch": self.trainer.current_epoch, "batches": done}  # type: ignore[union-attr]

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue from the position in `state_dict`."""
        self._position = (state_dict["epoch"], state_dict["batches"])

    def transfer_batch_to_device(
        self, batch: Batch | list[Batch], device: torch.device, dataloader_idx: int
    ) -> Batch | list[Batch]:
        """Move a batch to the device; the parts of a step stay on the host until each is computed."""
        return batch.to(device) if isinstance(batch, Batch) else batch

    def halves(self, batch: Batch) -> list[Batch]:
        """Return the two halves of `batch`, collated again so that each is padded to its own longest row."""
        assert batch.part is not None
        members, middle = batch.part.examples, (len(batch.part.examples) + 1) // 2
        return [self.part_of(batch, members[:middle]), self.part_of(batch, members[middle:])]

    def part_of(self, batch: Batch, examples: list[int]) -> Batch:
        """Return the batch of some `examples` of the step of `batch`, by their positions in the split."""
        assert batch.part is not None
        return self._batches_of(batch.split)[batch.part._replace(examples=examples, size=None)]

    def training_part(self, part: Part) -> Batch:
        """Return the batch of a part of a training step."""
        return self._batches_of("train")[part]

    def train_dataloader(self) -> DataLoader[list[Batch]]:
        """Return this rank's parts of each training step, shuffled and bucketed by length; of a round, none."""
        if self.clients:
            return _loader_of(NO_STEPS, [0], 0, self.seed, False, 0)
        batches = self._training_batches()
        batches.go_on(*self._position)  # before the workers start, which prefetch
        return self.loader_of(batches)

    def loader_of(self, steps: Sampler[list[Part]]) -> DataLoader[list[Batch]]:
        """Return a loader of training steps: of the parts of each, as `steps` yields them, their batches."""
        return self._loader(Steps(self._batches_of("train")), steps)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches, longest first."""
        return self._evaluation_loader("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test batches, longest first."""
        return self._evaluation_loader("test")

    def _training_batches(self) -> TrainingBatches:
        return TrainingBatches(self.plan_of, self.training_division)

    def _evaluation_loader(self, split: str) -> DataLoader[Batch]:
        return self._loader(self._batches_of(split), self.division.of_evaluation(self.evaluation_batches(split)))

    def evaluation_batches(self, split: str) -> Plan:
        """Return the examples of each evaluation batch of `split`."""
        return in_order_of_length(self.splits[split].encoded.lengths, self.spec.eval_batch_size)

    def _batches_of(self, split: str) -> Batches:
        members = self.splits[split]
        what = (self.task, members.examples, members.encoded, split, self.seed)
        batches = Batches(*what, self.recall.get(split), members.factors, static=self.static)
        if split == "train" and self.augmenter is not None:
            return AugmentedBatches(batches, self.augmenter)
        return batches

    def _loader(self, dataset: Dataset[Any], batches: Any) -> DataLoader[Any]:
        return _loader_of(dataset, batches, self.spec.workers, self.seed, self.augmenter is not None, self.ahead)


def _studied(data: DataModule, splits: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """Return the examples of each split that the budget takes, after the task has seen those of the training split."""
    taken = {split: sampled(split, members, data.task, data.budget) for split, members in splits.items()}
    data.task.study(taken["train"], Study(data.seed, data.spec.limits, data.processor, data.load_model))
    return taken


def _described(data: DataModule) -> dict[str, Any]:
    more = {"cleaned": data.facts.cleaned, "replay": [memory.describe() for memory in data.facts.memories]}
    return {
        "name": data.spec.name,
        "origin": data.facts.origin,
        "splits": {
            name: {
                "file": file_of(data.facts.files, data.read_as(name)),
                "rows": split.rows,
                **split.encoded.counts,
                **data.facts.counts.get(data.read_as(name), {}),  # of the whole file, even if others are held out
                "dropped": split.dropped,
            }
            for name, split in data.splits.items()
        },
        "labels": data.task.labels,
        "train_test_overlap": data.facts.train_test_overlap,
        "licence": data.facts.licence,
        **{key: what for key, what in more.items() if what},
    }


def check_weights(data: DataModule, split: str) -> None:
    """Check that an example of `split` has weight in the loss; a test split without is scored as far as it can be.

    Raises:
        DataError: none has.
    """
    members = data.splits[split]
    if any(data.task.weights(members.examples, members.encoded, [n]).any() for n in range(members.rows)):
        return
    lost = listed(data.lost(split)) or "none is labelled"
    nothing = f"nothing of its {members.rows:,} examples counts in the loss ({lost})"
    if split == "test":
        log.warning("the test split has no loss: %s; data.max_tokens=%d", nothing, data.spec.max_tokens)
        return
    raise DataError(
        f"the {split} split: {nothing}. Raise data.max_tokens={data.spec.max_tokens}, or choose other examples"
    )


def _log_left_out(data: DataModule, split: str) -> None:
    limit = data.spec.max_tokens
    if lost := listed(data.lost(split)):
        by = f" (data.max_tokens={limit})" if "max_tokens" in data.task.limited_by else ""
        log.info("left out of the %s split%s: %s", split, by, lost)
    if several := data.splits[split].encoded.counts.get("split_sentences"):
        log.info("longer than data.max_tokens=%d in the %s split: %s", limit, split, f"{several:,} split sentences")


def _loader_of(
    dataset: Dataset[Any], batches: Any, workers: int, seed: int, tokenises: bool, ahead: int
) -> DataLoader[Any]:
    """Return a loader of the `batches`, which yield what `dataset` maps to a batch.

    Args:
        dataset: collates.
        batches: the sampler.
        workers: processes that collate; 0: this one does.
        seed: the seed of the run.
        tokenises: whether collating tokenises.
        ahead: batches that are wanted before they are needed, in page-locked memory where there is a GPU: a thread of
            this process collates them if no worker does; 0: none are.
    """
    # a tokenizer of one thread is not for another, which may tokenise the halves of a batch
    threaded = ahead > 0 and not workers and not tokenises
    kind: Callable[..., DataLoader[Any]] = partial(Ahead, batches=ahead) if threaded else DataLoader
    # the sampler yields whole batches of indices, so that Lightning finds its set_epoch
    return kind(
        dataset,
        sampler=batches,
        batch_size=None,
        collate_fn=_identity,  # the default searches every list of a batch for arrays to convert
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=ahead > 0 and torch.cuda.is_available(),
        # without one of its own, a loader draws from the generator of dropout, as often as it has workers
        generator=torch.Generator().manual_seed(seed),
        worker_init_fn=_tokenise_alone if tokenises else None,
    )


def _tokenise_alone(worker: int) -> None:
    """Have tokenizers use no threads in a loading process: those of the process that it was forked from are gone."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _identity(batch: Any) -> Any:
    return batch


def listed(counts: Mapping[str, int]) -> str:
    """Return the counts that are not zero as readable text."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
