"""What is kept and watched while a server runs, around all of its processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from peftlab.errors import ConfigError
from peftlab.serving.observing.alerting import Alerting
from peftlab.serving.observing.metrics import CONTENT_TYPE, collected, exposition, shared
from peftlab.serving.observing.notices import Notices
from peftlab.serving.observing.reference import kept
from peftlab.serving.observing.rules import Drift, read
from peftlab.serving.observing.watch import Watch

if TYPE_CHECKING:
    from peftlab.serving.settings import Settings

__all__ = ["CONTENT_TYPE", "exposition", "running"]


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """In the block, all processes started here count together, their models' drift is measured, and alerts are sent.

    Raises:
        ConfigError: the rules of alerts cannot be used.
    """
    alerts = None if settings.alerts is None else read(settings.alerts)
    if alerts and not settings.drift and (idle := [rule.name for rule in alerts.rules if isinstance(rule, Drift)]):
        raise ConfigError(
            f"{settings.alerts}: the rule '{idle[0]}' looks at drift, which --no-drift does not measure: leave out one"
        )
    with ExitStack() as stack:
        stack.enter_context(shared())
        if alerts is not None or settings.drift:
            notices = Notices(alerts.to if alerts else ())
            stack.callback(notices.close)
            watch = Watch(
                collected,
                Alerting(alerts.rules) if alerts else None,
                notices.send,
                partial(kept, mask=settings.mask) if settings.drift else None,
            )
            watch.start()
            stack.callback(watch.stop)
        yield
