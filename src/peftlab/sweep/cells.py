"""Turns proposals into cells: Hydra composes them, the looker checks and identifies them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from peftlab.composing.compose import explain_composition, is_no_option
from peftlab.composing.hydra_gate import plain_values
from peftlab.errors import ConfigError, UserError
from peftlab.masking.mask import mask
from peftlab.sweep.ledger import Cell
from peftlab.sweep.plan import Proposal
from peftlab.sweep.processes import Looker
from peftlab.sweep.space import NOT_SWEPT
from peftlab.sweep.worker import Fact

Compose = Callable[[Sequence[str]], dict[str, Any]]
"""Returns the configuration for given overrides, as plain values."""


def composer(context: HydraContext, config: DictConfig) -> Compose:
    """Return a cached function that composes trials of the sweep configured by `config`."""

    @cache
    def compose(overrides: tuple[str, ...]) -> dict[str, Any]:
        try:
            cfg = context.config_loader.load_sweep_config(config, list(overrides))
            HydraConfig.instance().set_config(cfg)  # for ${hydra:...}
            with read_write(cfg), open_dict(cfg):
                del cfg["hydra"]
            plain = plain_values(cfg)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            if isinstance(error, ValueError) and not is_no_option(error):
                raise
            raise ConfigError(explain_composition(error, list(overrides))) from error
        assert isinstance(plain, dict)
        return {str(key): value for key, value in plain.items()}

    return lambda overrides: compose(tuple(overrides))


class Cells:
    """Maps proposals to cells; each proposal is checked once.

    Args:
        compose: see `composer`.
        fixed: the overrides that all trials share, as typed.
        looker: checks and identifies cells.
    """

    def __init__(self, compose: Compose, fixed: Sequence[str], looker: Looker) -> None:
        self._compose, self._looker = compose, looker
        self.fixed = [text for text in fixed if not is_of_the_sweep(text)]
        self._cells: dict[tuple[str, ...], Cell] = {}

    def __call__(self, proposal: Proposal) -> Cell:
        """Return the cell of a proposal.

        Raises:
            ConfigError: the cell cannot run.
        """
        cell = self._cells.get(proposal.overrides)
        if cell is None:
            overrides = [*self.fixed, *proposal.overrides]
            config = self._compose(overrides)
            fact: Fact = self._looker.ask("fact", config)
            cell = Cell(proposal, config, overrides, fact.sha256, fact.metric, fact.mode, fact.pack)
            self._cells[proposal.overrides] = cell
        return cell

    def checked(self, proposals: Sequence[Proposal]) -> list[Cell]:
        """Return the cells of all the proposals.

        Raises:
            ConfigError: some cannot run, or several are the same run; lists them all.
        """
        cells: list[Cell] = []
        wrong: dict[str, list[str]] = {}
        for proposal in proposals:
            try:
                cells.append(self(proposal))
            except UserError as error:
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
