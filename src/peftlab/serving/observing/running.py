"""What is kept and watched while a server runs, around all of its processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from peftlab.errors import ConfigError, did_you_mean
from peftlab.serving.observing.alerting import Alerting
from peftlab.serving.observing.metrics import CONTENT_TYPE, collected, exposition, shared
from peftlab.serving.observing.notices import Notices
from peftlab.serving.observing.reference import kept
from peftlab.serving.observing.rules import Alerts, Drift, read
from peftlab.serving.observing.watch import Watch
from peftlab.serving.settings import name_of

if TYPE_CHECKING:
    from peftlab.serving.settings import Settings

log = logging.getLogger("peftlab")

__all__ = ["CONTENT_TYPE", "exposition", "running"]


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """In the block, all processes started here count together, their models' drift is measured, and alerts are sent.

    Raises:
        ConfigError: the rules of alerts cannot be used.
        UserError: there is no such run.
    """
    alerts = None if settings.alerts is None else read(settings.alerts)
    if alerts and not settings.drift and (idle := [rule.name for rule in alerts.rules if isinstance(rule, Drift)]):
        raise ConfigError(
            f"{settings.alerts}: the rule '{idle[0]}' looks at drift, which --no-drift does not measure: leave out one"
        )
    if alerts:
        _check_models(alerts, settings)
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


def _check_models(alerts: Alerts, settings: Settings) -> None:
    """Check that the models of rules are served, or can be by administration: of another a rule never says anything.

    Raises:
        ConfigError: one can never be.
    """
    names = [name_of(run) for run in settings.runs]
    for rule in alerts.rules:
        model = getattr(rule, "model", None)
        if model is None or model in names:
            continue
        said = f"{settings.alerts}: the rule '{rule.name}' is about '{model}', which is not served"
        if settings.admin_port is None:
            raise ConfigError(f"{said}.{did_you_mean(model, names)} The models are: {', '.join(names)}")
        log.warning("%s: it says nothing until a run of that name is loaded", said)
