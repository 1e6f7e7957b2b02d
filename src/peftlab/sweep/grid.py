"""A plan that runs a fixed list of trials."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from peftlab.sweep.plan import Outcome, Plan, Proposal


class GridPlan(Plan):
    """Runs each of `proposals` once, in order, interrupted ones first."""

    def __init__(self, proposals: Sequence[Proposal]) -> None:
        self.proposals = list(dict.fromkeys(proposals))
        self.total = len(self.proposals)
        self._left = list(self.proposals)

    @override
    def ask(self) -> Proposal | None:
        return self._left.pop(0) if self._left else None

    @property
    @override
    def over(self) -> bool:
        return not self._left

    @override
    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Ignore the outcome: the list is fixed."""

    @override
    def recall(self, begun: Sequence[tuple[Proposal, Outcome]]) -> None:
        """Drop completed trials, and move interrupted ones to the front."""
        done = {proposal for proposal, outcome in begun if outcome.status == "completed"}
        left = [proposal for proposal in self.proposals if proposal not in done]
        first = [proposal for proposal, outcome in begun if outcome.status == "interrupted" and proposal in left]
        self._left = [*first, *(proposal for proposal in left if proposal not in first)]
