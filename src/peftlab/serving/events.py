"""What happens in a server, and who is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peftlab.serving.models.models import ModelCard


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One request that has come to its end, whatever that was."""

    request_id: str
    route: str
    """The route's template, such as ``/v1/predict``; never the path that was asked for."""
    status: int
    """The HTTP status."""
    seconds: float
    """From the first byte of the request to the last of the response."""
    caller: str | None = None
    """The name of the key or token; None: nobody is known."""
    model: str | None = None
    inputs: int = 0
    refused: int = 0
    """The number of inputs without an answer."""
    tokens: int = 0
    error: str | None = None
    """The code of the error, such as ``overloaded``."""
    traceparent: str | None = None
    """The header of that name as it came, see W3C Trace Context; it may be anything."""


@dataclass(frozen=True, kw_only=True)
class Computed:
    """One batch that was computed."""

    models: tuple[str, ...]
    """The model of each input."""
    tokens: int
    seconds: float
    waited: tuple[float, ...]
    """How long each input had been waiting, in seconds."""
    request_ids: tuple[str, ...] = ()
    """The request of each input."""


class Observer:
    """Is told what happens in a server; each method does nothing unless overridden.

    All are called on the server's event loop and must return at once.
    """

    def answered(self, request: Answered) -> None:
        """Take note of a request that has ended."""

    def computed(self, batch: Computed) -> None:
        """Take note of a batch."""

    def predicted(
        self,
        model: str,
        inputs: Sequence[Any],
        answers: Sequence[dict[str, Any]],
        *,
        request_id: str | None = None,
        tokens: Sequence[int] = (),
        unknown: Sequence[int] = (),
    ) -> None:
        """Take note of the inputs and answers of one request, without those that were refused.

        Args:
            model: the name of the model.
            inputs: as they came; an observer must not write them anywhere unless it was told to.
            answers: as they are sent.
            request_id: the id of the request.
            tokens: the number of tokens of each input; empty if nobody counted.
            unknown: how many of them the vocabulary lacks; the same.
        """

    def queued(self, inputs: int) -> None:
        """Take note of the length of the queue, whenever it changes."""

    def loaded(self, cards: Sequence[ModelCard]) -> None:
        """Take note of the models in memory, after they have changed."""

    def close(self) -> None:
        """Write what is still to be written; the server has ended, and nothing is told any more."""
