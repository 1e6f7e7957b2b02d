"""How much decisions would flatter a test split that they were learnt on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from peftlab.tasks.task import Task


def optimism(task: Task, answers: Callable[[], Iterable[Mapping[str, Any]]]) -> dict[str, float]:
    """Return how much better each score of the test split would look had the task decided on the test split itself.

    A negative value means that it would look worse: decisions are made for one score, and others may lose.

    Args:
        task: the task.
        answers: returns the kept answers to the test split, which are given by the decisions of the validation split.
    """
    scorer = task.scorer
    flattering = task.decide(answers())
    honest = scorer.scores(scorer.total(answers()))
    flattered = scorer.scores(scorer.total(task.decided(one, flattering) for one in answers()))
    return {name: round(flattered[name] - value, 6) for name, value in honest.items()}
