from __future__ import annotations

import pytest

from peftlab.transfer.posting import NotDeliveredError, post


@pytest.mark.parametrize("address", ["http://a..b/secret", f"http://{'a' * 70}.org/secret", "http://[::1/secret"])
def test_an_address_that_can_be_none_is_refused_at_once(address):
    with pytest.raises(NotDeliveredError) as refused:
        post(address, b"", {}, timeout=1, retries=3, pause=lambda _: pytest.fail("it is tried again"))
    assert "secret" not in str(refused.value)
