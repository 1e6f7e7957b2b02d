"""All observers of one process of a server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from peftlab.errors import UserError
from peftlab.serving.events import Answered, Computed, Observer
from peftlab.serving.observing.logs import RequestLog
from peftlab.serving.observing.metrics import Metrics
from peftlab.serving.observing.reference import kept, reference

if TYPE_CHECKING:
    from peftlab.personal_data.masker import Masker
    from peftlab.serving.models.models import ModelCard, Models
    from peftlab.serving.settings import Settings

log = logging.getLogger("peftlab")


class Observers(Observer):
    """Tells several observers; one that fails is reported once, and harms neither the others nor the request.

    Args:
        metrics: the first of them.
        others: the others.
    """

    def __init__(self, metrics: Metrics, others: Sequence[Observer] = ()) -> None:
        self.metrics = metrics
        self.all: tuple[Observer, ...] = (metrics, *others)
        self._failed: set[tuple[str, str]] = set()

    @override
    def answered(self, request: Answered) -> None:
        self._tell("answered", request)

    @override
    def computed(self, batch: Computed) -> None:
        self._tell("computed", batch)

    @override
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
        self._tell("predicted", model, inputs, answers, request_id=request_id, tokens=tokens, unknown=unknown)

    @override
    def queued(self, inputs: int) -> None:
        self._tell("queued", inputs)

    @override
    def loaded(self, cards: Sequence[ModelCard]) -> None:
        self._tell("loaded", cards)

    @override
    def close(self) -> None:
        self._tell("close")

    def _tell(self, what: str, *facts: Any, **more: Any) -> None:
        for observer in self.all:
            try:
                getattr(observer, what)(*facts, **more)
            except Exception as error:  # noqa: BLE001  # whatever it is, the request is worth more
                if (of := (type(observer).__name__, what)) not in self._failed:
                    self._failed.add(of)
                    log.error("%s.%s fails, and is not reported again: %s", *of, type(error).__name__)


def observer_of(settings: Settings, models: Models) -> Observers:
    """Return the observers that `settings` ask for, in a process with these models.

    What drift is measured from is computed here, where it is not kept yet: this may take as long as to answer a
    thousand inputs.

    Raises:
        UserError: the log cannot be written, or masks texts with an extra that is not installed.
    """
    if settings.drift:
        for name in models.names:
            reference(models, name, settings.mask)

    def ranges(identity: str) -> Sequence[float] | None:
        found = kept(identity, settings.mask) if settings.drift else None
        return None if found is None else found.ranges

    others: list[Observer] = [RequestLog(settings.request_log, _mask(settings.mask) if settings.log_texts else None)]
    if settings.otlp is not None:
        from peftlab.serving.observing.tracing import otlp

        others.append(otlp(settings.otlp))
    return Observers(Metrics([models.card(name) for name in models.names], ranges), others)


def _mask(door: Masker | None) -> Callable[[Any], Any]:
    """Return what takes personal data out of an input: every kind, and names as the server's `door` finds them.

    Raises:
        UserError: there is no such part, or its extra is missing.
    """
    try:
        from peftlab.personal_data.masker import Masker
    except ImportError as error:
        raise UserError("--log-texts masks texts, with the extra `privacy`: pip install 'peftlab[privacy]'") from error
    masker = Masker(names=None if door is None else door.names)
    return lambda one: masker.object(one)[0]
