"""The runs that a report is about: those below the named folders, and what could not be read of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

from peftlab.errors import UserError
from peftlab.reading.json_form import Form, has_form, parsed
from peftlab.report.unpacking import is_archive, opened
from peftlab.runs.find import ROOTS, find
from peftlab.runs.folder import CONFIG, read_config, read_predictions
from peftlab.runs.record import FILE_NAME, RunRecord
from peftlab.scores.of_record import scorer_of
from peftlab.scores.scorer import Direction, Scorer
from peftlab.storage.entries import check_readable, inside

LISTS = ("regularizer", "augment", "callbacks", "logger")
"""The axes that take a list of options."""

MOST_BYTES_BESIDE, MOST_BYTES = 2**26, 2**32
"""More than any file beside a record needs, and more than predictions that fit in memory."""


@dataclass(frozen=True)
class Run:
    """One run of a study: its record, and lazily what lies beside it."""

    record: RunRecord
    place: str
    """Where the reader finds it: the folder as the user named it, or the archive and the folder in it."""

    @property
    def id(self) -> str:
        """The start of its identity."""
        return str(self.record.data["run_id"])

    @property
    def status(self) -> str:
        """How it ended: completed, failed, interrupted, pruned; or running."""
        return str(self.record.data["status"])

    @property
    def metric(self) -> str | None:
        """The score that selected its best checkpoint."""
        name: str | None = self.record.data["selection"]["metric"]
        return name

    @property
    def direction(self) -> Direction:
        """Which direction of that score is better."""
        return "min" if self.record.data["selection"]["mode"] == "min" else "max"

    @property
    def seed(self) -> int | None:
        """The seed of the run; None if it is not recorded."""
        seed: int | None = self.record.data["environment"]["seeds"].get("global")
        return seed

    @property
    def parents(self) -> tuple[str, ...]:
        """The identities of the runs that its model was computed from; empty if it was trained."""
        return tuple(parent["identity"] for parent in (self.record.derived or {}).get("parents", ()))

    @property
    def derivation(self) -> str | None:
        """How its model was computed from others, such as ``of 5`` or ``merge of lora``; None: it was trained.

        It names a step, and what that was taken of, or the number of members.
        """
        derived = self.record.derived
        if derived is None:
            return None
        parents = derived["parents"]
        if len(parents) > 1:
            return f"of {len(parents)}"
        step = " ".join(name if value is True else f"{name}={value}" for name, value in derived["how"].items())
        return f"{step} of {' '.join(parent['method'] for parent in parents)}"

    @property
    def computing(self) -> list[str] | None:
        """The command line that computes its model from the runs behind it; None: it was trained."""
        derived = self.record.derived
        if derived is None:
            return None
        runs = [parent["identity"][:12] for parent in derived["parents"]]
        how = {name: value for name, value in derived["how"].items() if value is not None}
        if derived["by"] == "compress":
            options = ["--steps", ",".join(name if value is True else f"{name}={value}" for name, value in how.items())]
        else:
            options = [part for name, value in how.items() for part in (f"--{name}", _written(value))]
        return ["peftlab", derived["by"], *runs, *options]

    @property
    def is_tested(self) -> bool:
        """Whether it was completed and scored on the test split."""
        return self.status == "completed" and bool(self.record.scores("test"))

    def score(self, split: str = "test", name: str | None = None) -> float | None:
        """Return a score, by default the one that selected the best checkpoint; None if there is none."""
        name = name or self.metric
        return None if name is None else self.record.score(split, name)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration; empty if it cannot be read."""
        try:
            _check_size(self.record.folder / CONFIG)
            return read_config(self.record.folder)
        except (UserError, OSError, ValueError):
            return {}

    def value(self, key: str) -> Any:
        """Return the value of a dotted key of the configuration; None if there is none.

        An axis, such as ``peft`` or ``data``, gives the name of its option; a list of options, such as
        ``regularizer``, gives their names joined by ``+``, or ``none``. Without a configuration, it is the value that
        the record or its overrides have.
        """
        try:
            node = reduce(lambda node, part: node[part], key.split("."), self.config)
        except (LookupError, TypeError):
            return self._overridden(key)
        if key in LISTS and isinstance(node, Mapping):
            return "+".join(sorted(name for name, option in node.items() if option is not None)) or "none"
        return node.get("name", node.get("_target_")) if isinstance(node, Mapping) else node

    @cached_property
    def overrides(self) -> dict[str, str]:
        """The changes to the configuration as the user wrote them, by key; the last one of a key counts."""
        pairs = (text.lstrip("+~").partition("=") for text in self.record.data["overrides"])
        return {key: value for key, _, value in pairs}

    def _overridden(self, key: str) -> Any:
        recorded = {"peft": self.record.data["method"]["name"], "data": self.record.data["data"]["name"]}
        recorded["seed"] = self.seed
        if recorded.get(key) is not None:
            return recorded[key]
        if (text := self.overrides.get(key)) is None:
            return "none" if key in LISTS else None
        if key in LISTS:
            return "+".join(sorted(name.strip() for name in text.strip("[]").split(",") if name.strip())) or "none"
        return _plain(text)

    @cached_property
    def scorer(self) -> Scorer | None:
        """The scorer of its test scores; None if it has none, or one that is not of this package."""
        names = [*{score["scorer"] for score in self.record.scores("test")}]
        return scorer_of(names[0], self.record.data["data"]["labels"]) if len(names) == 1 else None

    def answers(self, split: str = "test") -> list[dict[str, Any]] | None:
        """Return the predictions of a split, one example each; None if the run kept none.

        Raises:
            UserError: the file cannot be read, or has not the size that the record lists.
        """
        file = self.record.folder / "predictions" / f"{split}.jsonl"
        if not file.is_file():
            return None
        try:
            self._check_listed(file)
            return read_predictions(inside(self.record.folder, file))
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: cannot be read: {error}") from error

    def _check_listed(self, file: Path) -> None:
        """Check that a file of the folder has the size that the record lists, before it is read into memory."""
        name = file.relative_to(self.record.folder).as_posix()
        size, sizes = file.stat().st_size, [one["bytes"] for one in self.record.data["files"] if one["path"] == name]
        if sizes and size != sizes[0]:
            raise ValueError(f"it has {size:,} bytes, and the record lists {sizes[0]:,}")
        if size > MOST_BYTES:
            raise ValueError(f"it has {size:,} bytes, more than {MOST_BYTES:,}")

    def beside(self, name: str) -> list[dict[str, Any]]:
        """Return a list that a command keeps next to the record, newest last; empty if there is none.

        Args:
            name: one of `peftlab.runs.folder.BESIDE`.

        Raises:
            UserError: the file cannot be read.
        """
        file = self.record.folder / name
        if not file.is_file():
            return []
        try:
            _check_size(inside(self.record.folder, file))
            documents = parsed(file.read_text(encoding="utf-8"), null_for_nan=True)
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: cannot be read: {error}") from error
        if not isinstance(documents, list) or not all(isinstance(one, dict) for one in documents):
            raise UserError(f"{file}: expected a list of JSON objects")
        return documents

    def readable(
        self, name: str, form: Form, holds: Callable[[dict[str, Any]], object] = lambda document: True
    ) -> list[dict[str, Any]]:
        """Return the entries of such a list that can be read, the newest first.

        Args:
            name: one of `peftlab.runs.folder.BESIDE`.
            form: what is shown of an entry.
            holds: whether an entry of that form is one that is looked for.
        """
        try:
            entries = self.beside(name)
        except UserError:
            return []
        return [one for one in reversed(entries) if has_form(one, form) and holds(one)]

    def newest(
        self, name: str, form: Form, holds: Callable[[dict[str, Any]], object] = lambda document: True
    ) -> dict[str, Any] | None:
        """Return the newest entry of such a list, see `readable`, or None if there is none."""
        return next(iter(self.readable(name, form, holds)), None)


@dataclass(frozen=True)
class LeftOut:
    """A run that is not in the report."""

    place: str
    reason: str


@dataclass(frozen=True)
class Study:
    """Runs, sorted by the time that they began, and what was left out."""

    runs: tuple[Run, ...]
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return len(self.runs)


@contextmanager
def reading(paths: Sequence[str | Path]) -> Iterator[Study]:
    """Read the runs at `paths`: run folders, folders of runs such as a sweep's, archives, or starts of ids.

    What cannot be read is listed and left out, as are the members of an archive that are not what its manifest says. A
    run that is there twice, such as in a folder and in an archive of it, counts once. Archives are unpacked until the
    block ends.

    Raises:
        UserError: nothing is there; says what was looked for.
    """
    runs: dict[str, Run] = {}
    left_out: list[LeftOut] = []
    with ExitStack() as stack:
        for path in paths or [root for root in ROOTS if root.is_dir()]:
            top: Path | None = None
            if is_archive(path):
                archive = stack.enter_context(opened(path))
                left_out += [LeftOut(f"{path}: {fault.member}", fault.what) for fault in archive.faults]
                top = archive.folder
            for folder in _folders(top or path):
                place = f"{path}: {folder.relative_to(top)}" if top else str(folder)
                try:
                    check_readable(folder)
                    record = RunRecord.load(folder)
                    runs.setdefault(json.dumps(record.data, sort_keys=True), Run(record, place))
                except UserError as error:
                    left_out.append(LeftOut(place, str(error).replace(str(folder), place)))
        yield _study(paths, runs, left_out)


def _study(paths: Sequence[str | Path], runs: Mapping[str, Run], left_out: Sequence[LeftOut]) -> Study:
    if not runs and not left_out:
        looked = ", ".join(map(str, paths)) or " and ".join(f"{root}/" for root in ROOTS)
        raise UserError(
            f"no run in {looked}: a run is a folder with a {FILE_NAME}. Name a sweep's folder, a run's, or the start "
            "of a run's id; `peftlab runs` lists them"
        )
    began = sorted(runs.values(), key=lambda run: (str(run.record.data["started_at"]), run.place))
    return Study(tuple(began), tuple(left_out))


def _folders(path: str | Path) -> list[Path]:
    """Return the run folders at or below `path`."""
    if Path(path).is_dir():
        below = os.walk(path)  # unlike `rglob`, it lists links that lead nowhere
        return sorted(Path(folder) for folder, folders, files in below if FILE_NAME in (*folders, *files))
    return [find(path)]


def _check_size(file: Path) -> None:
    if (size := file.stat().st_size) > MOST_BYTES_BESIDE:
        raise ValueError(f"it has {size:,} bytes, more than {MOST_BYTES_BESIDE:,}")


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _plain(text: str) -> Any:
    """Return the number, flag or null that an override writes, else its text without quotes."""
    if (lower := text.strip().lower()) in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[lower]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text.strip().strip("'\"")


def canonical(document: Mapping[str, Any]) -> str:
    """Return a document as JSON whose bytes depend on its values alone."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
