"""A finished run, used again: its model, its scores anew, predictions, and a plain transformers folder."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from peftlab import backbone
from peftlab.assembly import build_tuner, store_and_compile
from peftlab.backbone import check_length, positions
from peftlab.config import validate
from peftlab.data.batching import in_order_of_length
from peftlab.data.form import form_of
from peftlab.data.module import DataModule, listed, takes_folders
from peftlab.data.splits import file_of, named_for
from peftlab.devices.spec import AUTOCAST
from peftlab.disk import writing
from peftlab.errors import ConfigError, DataError, SourceError, UserError
from peftlab.methods.labels import adapter_labels
from peftlab.methods.method import ADAPTER_WEIGHTS
from peftlab.one_run import describe, score
from peftlab.process_state import restored
from peftlab.runs.environment import code_state
from peftlab.runs.find import find
from peftlab.runs.folder import CONFIG, RunFolder
from peftlab.runs.identity import identity
from peftlab.runs.record import RunRecord
from peftlab.sources import file_sha256
from peftlab.tasks.heads import logits_of
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.training.predictions import Predictions
from peftlab.tuner import Tuner
from peftlab.unicode_text import Door
from peftlab.use import evidence
from peftlab.use.card import model_card
from peftlab.use.claims import hold

log = logging.getLogger("peftlab")

SPLITS = ("validation", "test")
"""The splits that a run is scored on."""

MERGE_TOLERANCE = 1e-3
"""The most that a logit of an exported model may differ from the run's, both in fp32: merging rounds weights."""


@dataclass(frozen=True)
class Score:
    """A score that was computed anew."""

    name: str
    split: str
    scorer: str
    value: float
    recorded: float | None
    """What the run's record says; None on other data, and where it says nothing."""

    @property
    def equal(self) -> bool | None:
        """Whether both are the same to the last digit."""
        return None if self.recorded is None else self.value == self.recorded


@dataclass(frozen=True)
class Evaluation:
    """Scores of a finished run, computed anew."""

    scores: list[Score]
    lost: dict[str, dict[str, int]]
    """What the model has not seen of a split: counts, by what they count; a split that was seen whole is not in it."""
    elsewhere: dict[str, tuple[Any, Any]]
    """What the run had of the environment and what is here, where they differ: it may change the last digits."""

    @property
    def equal(self) -> bool | None:
        """Whether all scores are those of the record; None where it has none of them."""
        known = [score.equal for score in self.scores if score.equal is not None]
        return all(known) if known else None


@dataclass(frozen=True)
class Exported:
    """A plain transformers model in a folder."""

    folder: Path
    largest_difference: float
    """Between its logits and those of the run on the validation split, in fp32."""


def load(run: str | Path, allow: Sequence[str] = ()) -> FinishedRun:
    """Return the finished run in the folder `run`, or the one below ``runs/`` or ``sweeps/`` whose id begins so.

    Args:
        run: its folder, or the start of its id.
        allow: packages of your own whose classes its configuration may name: their code is run.

    Raises:
        UserError: there is no such run, it did not finish, or what it was built on is not to be had any more.
    """
    return FinishedRun(RunFolder(RunRecord.load(find(run)), allow=allow))


class FinishedRun:
    """A run that is completed, and what it left; see `load`.

    Where the run used a GPU and there is none here, it is used on the CPU in fp32.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.record = folder, folder.record
        if not (folder.adapter / ADAPTER_WEIGHTS).is_file():
            status = self.record.data["status"]
            raise UserError(
                f"{folder.adapter / ADAPTER_WEIGHTS}: there is no such file, though the run is completed: its model is "
                "lost. Put the file back, or train again with `peftlab reproduce`."
                if status == "completed"
                else f"{folder.path}: the run left no model: its status is '{status}', and only a completed run has "
                "one. `peftlab runs` shows which are."
            )
        config = folder.read_config(unused=("callbacks", "logger"))
        self._config = deepcopy(config)
        _hold(folder, config)
        config |= {"callbacks": {}, "logger": {}}  # they watched the training, and may want what is not here
        config["task"]["selection"] |= {"mode": None}  # the best checkpoint is chosen, whatever direction that went
        config["trainer"] |= {"devices": 1, "num_nodes": 1, "strategy": "single_device"}  # however many have trained it
        if config["trainer"].get("accelerator") == "gpu" and not torch.cuda.is_available():
            log.warning("the run used a GPU, and there is none here: it is used on the CPU in fp32")
            config["trainer"] |= {"accelerator": "cpu", "precision": "32-true", "frozen_weights": "fp32"}
        self.spec = validate(config)
        self.spec.task.learn_labels({"train": []}, self.spec.data.labels)
        if (labels := adapter_labels(folder.adapter)) is not None and labels != self.spec.task.labels:
            raise UserError(_not_of_the_record(folder, f"the labels in {CONFIG}", "those that the adapter has"))
        self.pretrained = backbone.fetch(self.spec.model, self.spec.task.processor)
        if self.pretrained.weights_sha256 != self.record.data["identity"]["weights_sha256"]:
            raise SourceError(f"{self.pretrained.folder}: is not the model any more that {folder.path} was trained on")

    @cached_property
    def tuner(self) -> Tuner:
        """The fine-tuned model, in fp32 and in evaluation mode: ``tuner.model`` is backbone, adapter and head."""
        return self._build()

    @property
    def model(self) -> nn.Module:
        """Backbone, adapter and head."""
        return self.tuner.model

    @cached_property
    def processor(self) -> Processor:
        """The backbone's processor."""
        return self.pretrained.processor(self.spec.task.processor)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The backbone's tokenizer, of a run on texts."""
        return self.processor.tokenizer

    def predict(self, texts: Sequence[str | Sequence[str] | Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return what the model finds in each of `texts`, in the precision of the run.

        A text may be given as a list of words, where the task is one of words, or as an object, such as ``{"text": ...,
        "text_pair": ...}``; its texts may be called as in the data that the run was trained on. Each answer has
        ``text``, or ``words``, or what the object has, and beside it what `Task.reply` returns. Where an object
        has a key that an answer has, its own value is kept as ``given_KEY``. Texts of any length will do: long ones are
        cut as in training; an answer to a text of which something is not seen says so, see `Task.lost`.

        Raises:
            DataError: the task does not take such objects, or the run was trained on pairs and this is none, or the
                other way round; names the first one by its index.
        """
        if isinstance(texts, str | Mapping):
            raise TypeError("predict takes a list of texts: write predict([text])")
        return list(self.answers(texts, len(texts)))

    def answers(
        self, texts: Iterable[str | Sequence[str] | Mapping[str, Any]], at_once: int
    ) -> Iterator[dict[str, Any]]:
        """Yield the answers to `texts`, as of `predict`, computing `at_once` together; tell at the end what is lost."""
        door = Door()
        objects = (door.value(_as_object(text, f"texts[{n}]")) for n, text in enumerate(texts))
        lost: Counter[str] = Counter()
        start = 0
        while chunk := list(islice(objects, at_once)):
            yield from self._answers(chunk, start, lost)
            start += len(chunk)
        if text := listed(lost):
            log.warning("not seen of what was given (data.max_tokens=%d): %s", self._max_tokens(self.tuner), text)
        if door.findings:
            log.warning("the texts have odd characters: %s", door.findings)

    def _answers(self, inputs: Sequence[Mapping[str, Any]], start: int, lost: Counter[str]) -> list[dict[str, Any]]:
        """Return the answers to `inputs`, the first of which is number `start`, and add to `lost` what is not seen."""
        task, limits = self.spec.task, Limits(self._max_tokens(self.tuner), self.spec.data.long)
        examples = []
        for number, given in enumerate(inputs, start):
            try:
                examples.append(self.from_input(given, f"text:{number}"))
            except DataError as error:
                raise DataError(f"texts[{number}]: {error}") from error
        task.bind(self.processor)
        encoded = task.encode(examples, self.processor, limits)
        lost.update(task.all_lost(encoded))
        found: dict[int, dict[str, Any]] = {}
        device = self._device
        tuner = self.tuner.to(device)
        dtype = AUTOCAST.get(self.spec.trainer.precision)
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not None):
            for indices in in_order_of_length(encoded.lengths, self.spec.data.eval_batch_size):
                batch = task.collate(examples, encoded, indices).to(device)
                answers = task.answers(tuner(batch), batch, tuner.model, final=True)
                found |= zip(indices, map(task.reply, batch.examples, answers), strict=True)
        return [_beside(given, found[n] | task.lost(encoded, n)) for n, given in enumerate(inputs)]

    def from_input(self, given: Mapping[str, Any], id: str) -> Any:
        """Return the example in an object, which has to be of the form of those that the run was trained on.

        Raises:
            DataError: it is not; says what is expected.
        """
        return self.spec.task.from_input(form_of(self.spec.data.format).usual(given), id)

    @restored()
    def evaluate(
        self,
        data: str | Path | None = None,
        splits: Sequence[str] = (),
        threads: int | None = None,
        out: str | Path | None = None,
    ) -> Evaluation:
        """Score the model anew, as the run itself did: the same precision, batches and scorer.

        On the same machine, with as many threads, the scores are those of the record to the last digit. Nothing is
        written into the run folder.

        Args:
            data: new labelled data in the format of the run's: a file, or a folder whose files are found by their
                names; None: the run's own.
            splits: of ``validation`` and ``test``; by default those that the run was scored on, of new data ``test``.
            threads: of the CPU; None: as many as the run had.
            out: the folder for predictions, ``<split>.jsonl``; None: they are not kept.

        Raises:
            UserError: the data is not what the run was scored on, or cannot be read; a label is none of the run's.
        """
        spec = self.spec
        tuner = self._build()  # of its own: stored in bf16 or compiled, it is of no other use
        known = DataModule(spec.data, spec.task, self.processor, spec.budget, spec.seed)
        if data is None:
            chosen = list(splits) or list(SPLITS if spec.budget.test else SPLITS[:1])
            known.load()
            self._check_digests(known, chosen)
        else:
            chosen = list(splits) or ["test"]
            options = {"max_tokens": self._max_tokens(tuner)}
            known.spec = replace(spec.data, **options)  # type: ignore[type-var]  # a dataclass, made by an alias of it
            files = _new_files(Path(data), chosen, takes_folders(spec.data.format))
            with _of_the_form_of(self.folder.path):
                known.load_new(files)
        check_length(tuner.model, known.longest, spec.peft.virtual_tokens)
        store_and_compile(tuner.model, spec.trainer)
        trainer = L.Trainer(
            accelerator=spec.trainer.accelerator,
            devices=1,
            precision=spec.trainer.precision,  # type: ignore[arg-type]  # never auto here: the run has settled it
            deterministic=spec.trainer.deterministic,
            callbacks=[] if out is None else [Predictions(Path(out))],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        recorded = {} if data is not None else self._recorded()
        scorer = spec.task.scorer.name
        with _threads(threads or self.record.data["environment"]["threads"]):
            found = [
                Score(name, split, scorer, value, recorded.get((split, name, scorer)))
                for split in chosen
                for name, value in score(trainer, tuner, known, split).items()
            ]
            lost = {split: counts for split in chosen if (counts := known.lost(split))}
            return Evaluation(found, lost, {} if data is not None else self._elsewhere(known, tuner))

    def export(self, folder: str | Path) -> Exported:
        """Write the model as plain transformers has it, with tokenizer and model card, and check it.

        What is written is read again with ``from_pretrained``, and its logits on the run's validation split are
        compared with those of the run. The folder appears when it is whole.

        Raises:
            UserError: `folder` is there and not empty, the method cannot be merged, or the record contradicts the run.
            RuntimeError: a logit differs by more than `MERGE_TOLERANCE`.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"'{folder}' is there already and not empty: name a new or empty folder")
        spec, tuner = self.spec, self._build()  # of its own: merging uses it up
        data = DataModule(spec.data, spec.task, self.processor, spec.budget, spec.seed)
        data.load()
        if doubt := self._doubt(data):
            log.warning("the model card has no scores: %s", doubt)
        expected = list(self._logits(tuner.model, data))
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        try:
            merged = spec.peft.merge(tuner.model)
            with writing(folder, needed=merged.get_memory_footprint(), elsewhere="name another folder"):
                merged.save_pretrained(temporary)
                self.pretrained.processor(spec.task.processor).save(temporary, positions(merged))
            head = spec.task.head
            plain = getattr(transformers, head.model).from_pretrained(temporary, local_files_only=True)
            plain = plain.eval().to(self._device)
            pairs = zip(self._logits(plain, data), expected, strict=True)
            difference = max(float((new - old).abs().max()) for new, old in pairs)
            if not difference <= MERGE_TOLERANCE:
                raise RuntimeError(f"the exported logits differ by {difference:.2g}, more than {MERGE_TOLERANCE}")
            origin, licence = self.pretrained.origin, self._model_licence
            card = model_card(self.record, head.model, head.pipeline, origin, licence, difference, doubt)
            (temporary / "README.md").write_text(card, encoding="utf-8")
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return Exported(folder, difference)

    def _doubt(self, data: DataModule) -> str | None:
        """Return why the scores of the record cannot be held against the run; None: they have been.

        Raises:
            UserError: they contradict it.
        """
        record = self.record.data
        if record["status"] != "completed":
            return f"the run is {record['status']}"
        if data.sha256 != record["identity"]["data_sha256"]:
            return f"{data.origin} is not what the run was trained and scored on any more"
        present = evidence.files(self.folder.path, [file["path"] for file in record["files"]])
        gathered = evidence.gather(self.folder, self.spec, self._config)
        findings = hold(self.record, self.spec, present, gathered, same_code=record["code"] == code_state())
        if findings.causes:
            raise UserError(_not_of_the_record(self.folder, findings.causes[0].what, "what its files and data say"))
        gone = [file["path"] for file in record["files"] if file["path"] not in present]
        return f"{gone[0]} is gone, by which they could be checked" if gone else None

    def _build(self) -> Tuner:
        tuner = build_tuner(self.spec, self.pretrained)
        try:
            self.spec.peft.load(tuner.model, self.folder.adapter)
        except (ValueError, OSError, SafetensorError) as error:
            raise UserError(
                f"{self.folder.adapter} is damaged, or not that of this run's {CONFIG}: {error}. Put back the "
                "files that the run left; their digests are in its record"
            ) from error
        return tuner.eval().to(self._device)

    @property
    def _device(self) -> torch.device:
        return torch.device("cuda" if self.spec.trainer.accelerator == "gpu" else "cpu")

    @property
    def _model_licence(self) -> str | None:
        return getattr(self.spec.model.source, "licence", None)

    def _max_tokens(self, tuner: Tuner) -> int:
        """Return the most tokens of a row: new texts may be longer than any that the run has seen."""
        most, longest = positions(tuner.model), self.spec.data.max_tokens
        return longest if most is None else min(longest, most - self.spec.peft.virtual_tokens)

    def _logits(self, model: nn.Module, data: DataModule) -> Iterator[Tensor]:
        for batch in data.val_dataloader():
            with torch.inference_mode():
                yield from logits_of(model(**batch.to(self._device).inputs)).values()

    def _check_digests(self, data: DataModule, splits: Sequence[str]) -> None:
        for split in splits:
            if data.sha256[split] != self.record.data["identity"]["data_sha256"][split]:
                raise DataError(
                    f"{data.origin}: {file_of(data.files, split)} is not what the run was scored on any more; "
                    "score it as new data, --data FILE"
                )

    def _recorded(self) -> dict[tuple[str, str, str], float]:
        return {
            (score["split"], score["name"], score["scorer"]): score["value"]
            for score in self.record.scores()
            if score["checkpoint"] == "best"
        }

    def _elsewhere(self, data: DataModule, tuner: Tuner) -> dict[str, tuple[Any, Any]]:
        then, now = self.record.data["environment"], describe(self.spec, data, tuner)["environment"]
        return {key: (then.get(key), now[key]) for key in now if then.get(key) != now[key]}


def _hold(folder: RunFolder, config: Mapping[str, Any]) -> None:
    """Check that configuration and adapter are those that the record tells of; say so where it tells nothing of them.

    Raises:
        UserError: they are not.
    """
    recorded = folder.record.data["identity"]
    listed = {file["path"]: file["sha256"] for file in folder.record.data["files"]}
    now = identity(config, recorded["data_sha256"], recorded["weights_sha256"])["config_sha256"]
    # what is masked in the file as a secret has another value in the identity
    if now != recorded["config_sha256"] and listed.get(CONFIG) != file_sha256(folder.path / CONFIG):
        raise UserError(_not_of_the_record(folder, CONFIG, "the configuration of its record"))
    own = sorted(path.relative_to(folder.path).as_posix() for path in folder.adapter.iterdir())
    if not any(name in listed for name in own):
        log.warning("%s: its record has no digests of the adapter: it is taken as it is", folder.path)
        return
    for name in dict.fromkeys([*own, *(name for name in listed if name.startswith("adapter/"))]):
        file = folder.path / name
        if not file.is_file() or file_sha256(file) != listed.get(name):
            raise UserError(_not_of_the_record(folder, name, "what the run has left there"))


def _not_of_the_record(folder: RunFolder, what: str, expected: str) -> str:
    return (
        f"{folder.path}: {what} is not {expected}: it was changed after the run. Put back what the run has left, or "
        f"train it again with `peftlab reproduce {folder.path}`, which says all that differs"
    )


def _new_files(path: Path, splits: Sequence[str], folders: bool) -> dict[str, Path]:
    """Return the file of each of `splits`, or its folder: `path` itself, or those in it whose names say so."""
    if not path.exists():
        raise DataError(f"'{path}': there is no such file or folder")
    what = "folder" if folders else "file"
    if not path.is_dir() or (folders and not any(named_for(split, path, folders) for split in SPLITS)):
        if len(splits) > 1:
            raise DataError(f"'{path}' is one {what}, and so one split: name one of {', '.join(splits)}")
        return {splits[0]: path}
    files = {}
    for split in splits:
        names = named_for(split, path, folders)
        if len(names) != 1:
            found = f"several could be ({', '.join(names)})" if names else f"no {what}'s name says so"
            raise DataError(f"'{path}': which {what} is the {split} split? {found}; name the {what} itself")
        files[split] = path / names[0]
    return files


@contextmanager
def _of_the_form_of(run: Path) -> Iterator[None]:
    """Around reading new data: a mistake in it is not mended by an option, which messages otherwise tell of."""
    try:
        yield
    except (DataError, ConfigError) as error:
        raise type(error)(
            f"{error} (New data has the form and the labels of the run's own, see {run / CONFIG}.)"
        ) from error


def _as_object(text: Any, name: str) -> dict[str, Any]:
    """Return `text` as an object.

    Raises:
        DataError: it is nothing that can be one.
    """
    if isinstance(text, Mapping):
        return dict(text)
    if isinstance(text, str):
        return {"text": text}
    if isinstance(text, Sequence) and not isinstance(text, bytes):
        return {"words": list(text)}
    raise DataError(f"{name}: is a {type(text).__name__}; expected a text, a list of words, or an object")


def _beside(given: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an object has and the answer to it; where both have a key, the object's own is ``given_KEY``."""
    names = {key: key for key in given}
    for key in given.keys() & answer.keys():
        while names[key] in {*given, *answer}:
            names[key] = f"given_{names[key]}"
    return {names[key]: value for key, value in given.items()} | dict(answer)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
