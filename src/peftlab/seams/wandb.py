"""Privates of wandb."""

from __future__ import annotations

import wandb
from wandb.sdk.lib import wbauth
from wandb.sdk.lib.runid import generate_id
from wandb.sdk.lib.service.service_connection import WandbAttachFailedError


def wandb_id() -> str:
    """Return an id for a new run of W&B's."""
    return generate_id()


def is_logged_in(base_url: str) -> bool:
    """Return whether there is a key for the W&B server at `base_url`; nobody is asked for one."""
    found = wbauth.authenticate_session(host=base_url, source="peftlab", prompt=False, update_session=False)
    return found is not None


def forget_wandb_run(run_id: str, seconds: float) -> None:
    """Have wandb's own process end a run that the server refused: until then no other can have its id.

    ``wandb.init`` leaves it there, and gives no `wandb.Run` that could be finished.

    Raises:
        TimeoutError: that process does not end it within some `seconds`.
    """
    service = wandb.setup().ensure_service()
    try:
        _, refused = service.inform_attach(run_id)
    except WandbAttachFailedError:  # refused before that process heard of it
        return
    # told to forget a run that has not ended, it waits for the end and answers nobody meanwhile
    refused.deliver_exit(1).wait_or(timeout=seconds)
    service.inform_finish(run_id)
