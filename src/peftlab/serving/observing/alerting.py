"""Which alerts hold, and which messages follow: no clock, no thread, no network."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from peftlab.serving.observing.rules import Rule, Subject
from peftlab.serving.observing.window import Window

Message = dict[str, Any]


@dataclass
class _State:
    """How one rule stands for one subject."""

    since: float | None = None
    """When its condition began to hold; None: it does not."""
    firing: bool = False
    """Whether somebody has been told, and not yet that it is over."""
    silent_until: float = float("-inf")


class Alerting:
    """Follows rules from one window to the next.

    A rule that is broken for `Rule.lasting` is told once, and once more when it is so no longer. A rule that is broken
    again within `Rule.cool_down` is told when that has passed, if it is still broken then. A subject of which there is
    too little, such as a model without requests, keeps its state: that nothing is known does not resolve an alert. That
    the model is no longer served does.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self._states: dict[tuple[str, Subject], _State] = {}

    @property
    def longest_window(self) -> float:
        """The longest time that a rule looks back on, in seconds."""
        return max((rule.window for rule in self.rules), default=0.0)

    def messages(self, rule: Rule, window: Window, served: Collection[str] | None = None) -> list[Message]:
        """Return what is to be told of `rule` at the end of `window`.

        Args:
            rule: one of the rules.
            window: the numbers.
            served: the models that are served; None: they are not known.
        """
        now, messages = window.end.time, []
        values: dict[Subject, float | None] = {**rule.values(window)}
        if served is not None:
            followed = {subject for name, subject in self._states if name == rule.name}
            values |= dict.fromkeys(((values.keys() | followed) - {""}).difference(served))
        for subject, value in values.items():
            state = self._states.setdefault((rule.name, subject), _State())
            if value is None or not rule.is_broken(value):
                if state.firing:
                    messages.append(_message("resolved", rule, subject, value, now - (state.since or now)))
                state.since, state.firing = None, False
                continue
            state.since = now if state.since is None else state.since
            if not state.firing and now - state.since >= rule.lasting and now >= state.silent_until:
                state.firing, state.silent_until = True, now + rule.cool_down
                messages.append(_message("firing", rule, subject, value, now - state.since))
        return messages

    def firing(self) -> dict[tuple[str, Subject], bool]:
        """Return which rules are firing, by name and subject, of all that were ever near it."""
        return {key: state.firing for key, state in self._states.items()}


def _message(state: str, rule: Rule, subject: Subject, value: float | None, seconds: float) -> Message:
    kind = type(rule).__name__
    of = f" of {subject}" if subject else ""
    shown = "" if value is None else f"{value:.4g}{rule.unit}"
    if value is None:
        text = f"{rule.name}: over, {subject} is no longer served"
    elif state == "firing":
        text = f"{rule.name}: {kind.lower()}{of} is {shown}, {rule.limit}, over {rule.window:g} s"
    else:
        text = f"{rule.name}: over, {kind.lower()}{of} is {shown} and no longer {rule.limit}"
    return {
        "state": state,
        "alert": rule.name,
        "model": subject or None,
        "value": value,
        "limit": rule.limit,
        "window_s": rule.window,
        "lasted_s": round(seconds, 3),
        "text": text,
    }
