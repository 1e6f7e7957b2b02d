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
    """Return whether there is a key for the W&B server at `base_url`; never prompts."""
    auth = wbauth.authenticate_session(host=base_url, source="peftlab", prompt=False, update_session=False)
    return auth is not None


def forget_wandb_run(run_id: str, seconds: float) -> None:
    """Have wandb's own process end a run that the server refused: until then no other run can take its id.

    ``wandb.init`` leaves the run there, and returns no `wandb.Run` to finish.

    Raises:
        TimeoutError: that process does not end it within `seconds`.
    """
    service = wandb.setup().ensure_service()
    try:
        _, refused = service.inform_attach(run_id)
    except WandbAttachFailedError:  # refused before it reached that process
        return
    # if it finishes a run that has not ended, it waits for the end and answers no other request
    refused.deliver_exit(1).wait_or(timeout=seconds)
    service.inform_finish(run_id)
