"""Which alerts have been sent where: those that a sink did not take are sent again at the next call."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from peftlab.opinion.sinks import Alert, Recipient
from peftlab.storage.atomic import replacing
from peftlab.transfer.posting import NotDeliveredError

log = logging.getLogger("peftlab")

SENT = "sent.json"


class Outbox:
    """The alerts of a watch on their way to its sinks.

    Args:
        folder: of the watch.
        sinks: who is told.
        before: the alerts of earlier calls, which a sink that is new is not told of.
    """

    def __init__(self, folder: Path, sinks: Sequence[Recipient], before: Sequence[Alert]) -> None:
        self._folder, self._sinks = folder, sinks
        file = folder / SENT
        self._sent: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        for sink in sinks:
            self._sent.setdefault(sink.name, [alert["id"] for alert in before])

    def note(self) -> None:
        """Keep who is told from now on."""
        with replacing(self._folder / SENT) as temporary:
            temporary.write_text(json.dumps(self._sent, indent=1), encoding="utf-8")

    def send(self, alerts: Sequence[Alert]) -> int:
        """Send each alert to the sinks that have not got it, oldest first, and return how many wait for the next call.

        After the first that a sink does not take, the rest waits: alerts arrive in their order.
        """
        waiting = 0
        for sink in self._sinks:
            sent = self._sent[sink.name]
            left = [alert for alert in alerts if alert["id"] not in set(sent)]
            for place, alert in enumerate(left):
                try:
                    sink.send(alert, self._folder)
                except NotDeliveredError as error:
                    waiting += len(left) - place
                    log.warning("%d alerts wait for the next call: %s", len(left) - place, error)
                    break
                sent.append(alert["id"])
                self.note()
        return waiting
