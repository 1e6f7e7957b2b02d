"""Turns proposals into cells: Hydra composes them, lookers check and identify them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

from peftlab.errors import ConfigError, UserError
from peftlab.masking.mask import mask
from peftlab.sweep.checked import Checked
from peftlab.sweep.ledger import Cell
from peftlab.sweep.lookers import Lookers
from peftlab.sweep.plan import Proposal
from peftlab.sweep.space import NOT_SWEPT
from peftlab.sweep.worker import Fact, Machine

Compose = Callable[[Sequence[str]], dict[str, Any]]
"""Returns the configuration for given overrides, as plain values."""


class Cells:
    """Maps proposals to cells; each proposal is checked once.

    Args:
        compose: see `peftlab.composing.composer.Composer`.
        fixed: the overrides that all trials share, as typed.
        lookers: check and identify cells.
        checked: what earlier commands found out about cells; None: nothing.
    """

    def __init__(
        self, compose: Compose, fixed: Sequence[str], lookers: Lookers, checked: Checked | None = None
    ) -> None:
        self._compose, self._lookers, self._checked = compose, lookers, checked
        self.fixed = [text for text in fixed if not is_of_the_sweep(text)]
        self._cells: dict[tuple[str, ...], Cell] = {}
        self._kept: set[str] = set()
        """The digests of the cells that `checked` knows."""

    def __call__(self, proposal: Proposal) -> Cell:
        """Return the cell of a proposal.

        Raises:
            ConfigError: the cell cannot run.
        """
        if proposal.overrides not in self._cells:
            for error in self._check([proposal]).values():
                raise error
        return self._cells[proposal.overrides]

    def _check(self, proposals: Sequence[Proposal]) -> dict[tuple[str, ...], UserError]:
        """Find out about all cells that have not been checked; return why some cannot run, by their overrides."""
        refused: dict[tuple[str, ...], UserError] = {}
        unknown: dict[tuple[str, ...], tuple[Proposal, dict[str, Any]]] = {}
        for proposal in proposals:
            if proposal.overrides in self._cells or proposal.overrides in unknown:
                continue
            try:
                config = self._compose([*self.fixed, *proposal.overrides])
            except UserError as error:
                refused[proposal.overrides] = error
                continue
            fact = self._kept_fact(config)
            if fact is None:
                unknown[proposal.overrides] = proposal, config
            else:
                self._add(proposal, config, fact)
        answers = self._lookers.facts([config for _, config in unknown.values()])
        for (proposal, config), answer in zip(unknown.values(), answers, strict=True):
            if isinstance(answer, UserError):
                refused[proposal.overrides] = answer
            else:
                self._add(proposal, config, answer)
        return refused

    def _add(self, proposal: Proposal, config: dict[str, Any], fact: Fact) -> None:
        overrides = [*self.fixed, *proposal.overrides]
        self._cells[proposal.overrides] = Cell(
            proposal, config, overrides, fact.sha256, fact.metric, fact.mode, fact.pack
        )

    def checked(self, proposals: Sequence[Proposal]) -> list[Cell]:
        """Return the cells of all the proposals.

        Raises:
            ConfigError: some cannot run, or several are the same run; lists them all.
        """
        refused = self._check(proposals)
        cells: list[Cell] = []
        wrong: dict[str, list[str]] = {}
        for proposal in proposals:
            if (error := refused.get(proposal.overrides)) is None:
                cells.append(self._cells[proposal.overrides])
            else:
                wrong.setdefault(str(error), []).append(" ".join(proposal.overrides))
        if wrong:
            count = sum(map(len, wrong.values()))
            lines = [
                f"\n  {reason}" + "".join(f"\n    {trial}" for trial in trials) for reason, trials in wrong.items()
            ]
            raise ConfigError(
                f"{count} of {len(proposals)} trials cannot be run, and none was started:{''.join(lines)}"
            )
        same: dict[str, list[str]] = {}
        for cell in cells:
            same.setdefault(cell.sha256, []).append(" ".join(cell.proposal.overrides))
        if twins := [trials for trials in same.values() if len(trials) > 1]:
            listed = "".join(f"\n  {' and '.join(trials)}" for trials in twins)
            raise ConfigError(
                f"these trials are one and the same run: their differences affect no result; keep one:{listed}"
            )
        return cells

    def _kept_fact(self, config: dict[str, Any]) -> Fact | None:
        fact = None if self._checked is None else self._checked.fact(config, self._lookers.environment)
        if fact is not None:
            self._kept.add(fact.sha256)
        return fact

    def keep_facts(self, unfinished: Collection[str], machine: Machine) -> None:
        """Keep for the next command what was found out about cells, but not about trials that it is to run.

        Args:
            unfinished: the run ids of those.
            machine: the devices of this sweep.
        """
        new = (cell for cell in self._cells.values() if cell.sha256 not in self._kept)
        cells = [cell for cell in new if cell.run_id not in unfinished]
        if self._checked is None or not cells:
            return
        with suppress(RuntimeError):  # the process has died: they are checked again
            if (files := self._lookers.files()) is not None:
                facts = [(cell.config, Fact(cell.sha256, cell.metric, cell.mode, cell.pack)) for cell in cells]
                self._checked.keep(facts, self._lookers.environment, files, machine)

    def default_of(self, key: str, overrides: Sequence[str]) -> Any:
        """Return the configuration value at a dotted key under the overrides.

        Raises:
            ConfigError: there is no such key.
        """
        try:
            return _at(self._compose([*self.fixed, *overrides]), key)
        except LookupError as error:
            raise ConfigError(f"there is no key '{key}' in the configuration under {' '.join(overrides)}") from error

    def settings(self, key: str) -> dict[str, Any] | None:
        """Return the section at a dotted key of the first cell; None if it has none."""
        try:
            section: dict[str, Any] | None = _at(next(iter(self._cells.values())).config, key)
        except (StopIteration, LookupError):
            return None
        return section

    def proposal_of(self, overrides: Sequence[str]) -> Proposal | None:
        """Return the proposal behind a run with these recorded overrides; None if they are not of this sweep."""
        own = list(overrides)
        for text in mask(self.fixed):  # as in the records
            if text not in own:
                return None
            own.remove(text)
        return Proposal(tuple(own))


def _at(config: dict[str, Any], key: str) -> Any:
    """Return the value at a dotted key; raises LookupError if there is none."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, dict):
            raise KeyError(key)
        node = node[part]
    return node


def is_of_the_sweep(override: str) -> bool:
    """Return whether an override configures the sweep rather than its trials."""
    key = override.lstrip("+~").partition("=")[0].partition("@")[0]
    return key.replace("/", ".").partition(".")[0] in NOT_SWEPT
