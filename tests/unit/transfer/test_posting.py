from __future__ import annotations

import socket
import threading

import pytest

from peftlab.transfer.posting import NotDeliveredError, post


@pytest.mark.parametrize("address", ["http://a..b/secret", f"http://{'a' * 70}.org/secret", "http://[::1/secret"])
def test_an_address_that_can_be_none_is_refused_at_once(address):
    with pytest.raises(NotDeliveredError) as refused:
        post(address, b"", {}, timeout=1, retries=3, pause=lambda _: pytest.fail("it is tried again"))
    assert "secret" not in str(refused.value)


def test_the_status_decides_whatever_follows_it():
    """An answer that is cut, or never ends, would else be an error, and a message that was taken be sent again."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n{")

        thread = threading.Thread(target=answer)
        thread.start()
        post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {}, timeout=5, retries=0, pause=lambda _: False)
        thread.join()
