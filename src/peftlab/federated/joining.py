"""How a run becomes a federation: its training examples are divided, and its module gets the clients to average."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from peftlab.data.encoding import encode
from peftlab.data.module import DataModule, Split, check_weights
from peftlab.data.views import chosen
from peftlab.devices.fork_server import fork_server
from peftlab.errors import ConfigError
from peftlab.federated.coordinator import SECTION, Coordinator, Federation, Trains, described
from peftlab.federated.local import LocalTraining
from peftlab.federated.spec import FederatedSpec
from peftlab.federated.split import divided
from peftlab.federated.workers import Workers
from peftlab.runs.folder import RunFolder
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")


def divide(spec: FederatedSpec | None, data: DataModule) -> None:
    """Divide the training examples of `data` among the clients, if there are any; with `only`, leave those of one.

    Raises:
        ConfigError: they cannot be divided so, the labels are not named, or there is no such client.
        DataError: that client has nothing to learn from.
    """
    if spec is None:
        return
    train = data.splits["train"]
    if data.task.labels and not data.spec.labels:
        named = ",".join(data.task.labels[:4])
        raise ConfigError(
            "data.labels=null: the labels would be read off the examples of all clients, which are not to leave them. "
            f"Name them: data.labels=[{named}{',...' if len(data.task.labels) > 4 else ''}]"
        )
    clients = divided(spec, train.examples, data.task, data.spec.format, data.seed)
    if spec.only is None:
        data.clients = clients
        return
    if spec.only >= len(clients):
        raise ConfigError(f"federated.only={spec.only}: there are {len(clients)} clients, numbered from 0")
    members = list(clients.values())[spec.only]
    examples = chosen(train.examples, members)
    own = Split(examples, encode(data.task, examples, data.processor, data.spec.limits), train.dropped)
    own.factors = None if train.factors is None else train.factors[members]
    data.splits["train"] = own
    check_weights(data, "train")


@contextmanager
def joined(
    spec: Any,
    config: dict[str, Any],
    tuner: Tuner,
    data: DataModule,
    folder: RunFolder,
    let_through: Callable[[], None],
    target: Callable[..., None],
) -> Iterator[None]:
    """Give the module of a federated run its clients in this context; of another run, do nothing.

    Args:
        spec: the run's specification.
        config: its resolved configuration, which processes for clients are started with.
        tuner: its module.
        data: its data.
        folder: its folder.
        let_through: called again and again while clients train; may raise to end the run.
        target: what such a process does, with `config`, a number of threads and a connection.
    """
    if not isinstance(tuner, Coordinator):
        yield
        return
    train: Trains
    workers = None
    if spec.federated.processes:
        arguments = (config, torch.get_num_threads())
        train = workers = Workers(spec.federated.processes, fork_server, target, arguments, let_through)
    else:
        train = LocalTraining(tuner, data, spec.federated, spec.trainer, let_through, folder.record.event)
    federation = Federation(spec.federated, data, folder.checkpoints / "clients", folder.record, train)
    tuner.join(federation)
    folder.record.extend(SECTION, described(data, tuner))
    sizes = sorted(len(members) for members in data.clients.values())
    log.info(
        "federation: %d clients with %d to %d examples, %d of them in a round",
        len(sizes),
        sizes[0],
        sizes[-1],
        spec.federated.taking_part(len(sizes)),
    )
    try:
        yield
    finally:
        if workers is not None:
            workers.close()
    tuner.leave()
