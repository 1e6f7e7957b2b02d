"""A plan that runs a fixed list of trials."""

from __future__ import annotations

from collections.abc import Sequence

from peftlab.sweep.plan import Begun, Outcome, Plan, Proposal


class GridPlan(Plan):
    """Runs each of `proposals` once, in order; those that had been begun before come first."""

    def __init__(self, proposals: Sequence[Proposal]) -> None:
        self.proposals = list(dict.fromkeys(proposals))
        self.total = len(self.proposals)
        self._left = list(self.proposals)

    def ask(self) -> Proposal | None:
        """Return the next."""
        return self._left.pop(0) if self._left else None

    @property
    def over(self) -> bool:
        """Whether all have been proposed."""
        return not self._left

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Take it up: nothing depends on it."""

    def recall(self, past: Sequence[tuple[Proposal, Outcome]], unfinished: Sequence[Begun] = ()) -> None:
        """Leave out what is completed, and go on with what had been begun."""
        done = {proposal for proposal, outcome in past if outcome.status == "completed"}
        left = [proposal for proposal in self.proposals if proposal not in done]
        first = [proposal for proposal, _ in unfinished if proposal in left]
        self._left = [*first, *(proposal for proposal in left if proposal not in first)]
