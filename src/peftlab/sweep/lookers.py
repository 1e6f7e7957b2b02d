"""Checks many cells on several cores."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from peftlab.devices.free_memory import free_memory
from peftlab.errors import UserError
from peftlab.storage.digests import canonical_json
from peftlab.sweep.files_read import State
from peftlab.sweep.processes import Looker
from peftlab.sweep.slots import Slot
from peftlab.sweep.worker import Fact

Answer = Fact | UserError
"""What was found out about a cell, or why it cannot run."""

_MODELS_EACH = 6
"""Models to build for which another process is worth reading the data again."""
_MOST = 8
_SHARE_OF_MEMORY = 0.5
"""The part of the free memory that further processes may take together."""
_OF_THE_MODEL = (
    *("model", "data", "task", "augment", "semi", "out_of_scope", "peft", "regularizer", "trainer", "callbacks"),
    *("adapter", "budget"),
)
"""The sections that decide which data is read and which model is built; cells that differ elsewhere share both."""


@dataclass
class _Work:
    """The cells of one model, all left to one process."""

    looker: Looker
    left: deque[int]
    number: int = field(init=False)
    """The cell that it is checking."""


class Lookers:
    """One process that answers questions about cells, and others beside it while many are to be checked.

    The first one shows how much memory it takes; only then are the others started.

    Args:
        environment: variables for each of them.
        folder: receives what they print.
        cores: how many they may use; None: those of the machine.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path, cores: int | None = None) -> None:
        self.environment, self._folder = environment, folder
        affinity: Callable[[int], Any] | None = getattr(os, "sched_getaffinity", None)
        self._cores = cores or (len(affinity(0)) if affinity else os.cpu_count() or 1)
        self._lookers = [self._another(0)]
        self._lost = False
        """Whether one has died, and with it what it read."""

    def ask(self, name: str, *arguments: Any) -> Any:
        """Return the answer of the first one, see `Looker.ask`."""
        return self._lookers[0].ask(name, *arguments)

    def facts(self, configs: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """Return what is found out about each cell, from its composed configuration.

        Raises:
            RuntimeError: the first process has died.
        """
        models = deque(_by_model(configs))
        answers: dict[int, Answer] = {}
        working: dict[Connection, _Work] = {}

        def go_on(looker: Looker, left: deque[int]) -> None:
            if left or models:
                work = _Work(looker, left or models.popleft())
                work.number = work.left.popleft()
                working[looker.send("fact", configs[work.number])] = work

        go_on(self._lookers[0], deque())
        for looker in self._lookers[1:]:
            go_on(looker, deque())
        while working:
            for connection in wait(list(working)):
                assert isinstance(connection, Connection)
                work = working.pop(connection)
                try:
                    answers[work.number] = work.looker.receive()
                except UserError as error:
                    answers[work.number] = error
                except RuntimeError:  # it has died, perhaps for want of memory
                    if work.looker is self._lookers[0]:
                        raise
                    self._lookers.remove(work.looker)
                    self._lost = True
                    work.looker.close()
                    models.append(deque([work.number, *work.left]))
                    continue
                if len(self._lookers) == 1 and (more := self._room(len(models))):
                    self._lookers += [self._another(n + 1) for n in range(more)]
                    self._lookers[0].ask("among", more + 1)
                    for looker in list(self._lookers[1:]):
                        if self._begins(looker, more + 1):
                            go_on(looker, deque())
                go_on(work.looker, work.left)
            if not working and models:
                go_on(self._lookers[0], deque())  # what others have left
        return [answers[number] for number in range(len(configs))]

    def files(self) -> dict[str, State] | None:
        """Return what all of them have read, see `peftlab.sweep.files_read.FilesRead.states`."""
        if self._lost:
            return None
        states: dict[str, State] = {}
        for looker in self._lookers:
            own = looker.ask("files")
            if own is None or any(states.get(path, state) != state for path, state in own.items()):
                return None
            states |= own
        return states

    def close(self) -> None:
        """End the processes."""
        for looker in self._lookers:
            looker.close()

    def _begins(self, looker: Looker, among: int) -> bool:
        """Return whether a further process has started as one of so many; one that has not is left out."""
        try:
            looker.ask("among", among)
        except RuntimeError:
            self._lookers.remove(looker)
            looker.close()
            self._lost = True
            return False
        return True

    def _another(self, number: int) -> Looker:
        return Looker(self.environment, self._folder / f"output-{number}.txt")

    def _room(self, models: int) -> int:
        """Return for how many more processes there are cores, memory and models to build."""
        more = min(self._cores, _MOST, models // _MODELS_EACH + 1) - 1
        if more < 1:
            return 0
        return min(more, int(_SHARE_OF_MEMORY * free_memory() / self._lookers[0].ask("among", 1)))


def _by_model(configs: Sequence[Mapping[str, Any]]) -> list[deque[int]]:
    """Return the places of the cells with the same model, together, in the order of the first of each."""
    places: dict[str, deque[int]] = {}
    for place, config in enumerate(configs):
        try:
            model = canonical_json([config.get(section) for section in _OF_THE_MODEL])
        except (TypeError, ValueError):  # nan, say: refused in any case
            model = str(place)
        places.setdefault(model, deque()).append(place)
    return list(places.values())


@contextmanager
def looking(slots: Sequence[Slot] = ()) -> Iterator[Lookers]:
    """Yield lookers, the processes that check cells; with `slots`, they see the same devices as the trials."""
    with tempfile.TemporaryDirectory() as folder:
        lookers = Lookers(slots[0].environment() if slots else {}, Path(folder))
        try:
            yield lookers
        finally:
            lookers.close()
