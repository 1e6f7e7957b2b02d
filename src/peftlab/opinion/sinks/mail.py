"""Alerts as mails: files that a mail program or ``sendmail -t`` takes. Nothing is sent."""

from __future__ import annotations

from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.opinion.sinks import Alert
from peftlab.storage.atomic import replacing

_ADDRESS = Annotated[str, Field(pattern=r"^[^\s@<>,]+@[^\s@<>,]+$")]


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Sink:
    """A folder that gets a mail (RFC 5322) for each alert, ``ID.eml``."""

    sender: _ADDRESS
    recipients: Annotated[list[_ADDRESS], Field(min_length=1)]
    folder: Annotated[str, Field(min_length=1)] = "mail"

    @property
    def name(self) -> str:
        """Its folder and its recipients."""
        return f"mail {self.folder} {' '.join(self.recipients)}"

    def check(self) -> None:
        """Take any folder."""

    def send(self, alert: Alert, folder: Path) -> None:
        """Write the mail, in place of one with the same id."""
        mail = EmailMessage(policy=SMTP)
        mail["From"], mail["To"] = self.sender, ", ".join(self.recipients)
        mail["Subject"] = " ".join(alert["text"].partition(": ")[0].split())
        mail["Date"] = format_datetime(datetime.fromisoformat(alert["window"]["end"]))
        mail["Message-ID"] = f"<{alert['id']}@{self.sender.rpartition('@')[2]}>"
        mail.set_content(body(alert))
        with replacing(folder / self.folder / f"{alert['id']}.eml") as temporary:
            temporary.write_bytes(mail.as_bytes())


def body(alert: Alert) -> str:
    """Return an alert as a reader wants it."""
    lines = [alert["text"], *alert.get("notes", ())]
    if alert.get("texts"):
        lines += ["", f"Texts of {alert['texts_of']}:", *(f"- {' '.join(text.split())}" for text in alert["texts"])]
    if "false_alarms" in alert:
        rates = alert["false_alarms"]
        lines += [
            "",
            f"Where nothing changes, {rates['simulated']:.2f} alerts open in 30 days over all series in a simulation; "
            f"in a replay of the baseline {rates['replayed']:.2f}, of this series {rates['replayed_of_series']:.2f}.",
        ]
    return "\n".join(lines) + "\n"
