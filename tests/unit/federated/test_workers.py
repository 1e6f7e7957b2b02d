"""What a process that trains clients answers."""

from __future__ import annotations

import pytest

from peftlab.errors import NonFiniteError
from peftlab.federated.workers import serve


class Pipe:
    """The end of a connection from which orders come; the other end is closed after them."""

    def __init__(self, *orders):
        self.orders, self.sent = list(orders), []

    def recv(self):
        if not self.orders:
            raise EOFError
        return self.orders.pop(0)

    def send(self, answer):
        self.sent.append(answer)


class Training:
    def train(self, order):
        if isinstance(order, Exception):
            raise order


def test_whatever_is_wrong_with_a_client_is_said_and_the_process_lives(capsys):
    pipe = Pipe(NonFiniteError("step 3: the loss is not finite"), KeyError("reference"), None)
    serve(Training(), pipe)
    assert pipe.sent == ["step 3: the loss is not finite", "KeyError: 'reference'", None]
    assert "Traceback" in capsys.readouterr().err


def test_a_process_ends_where_memory_does(capsys):
    with pytest.raises(MemoryError):
        serve(Training(), Pipe(MemoryError()))
