"""What the observer is told of a request that has ended."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from peftlab.serving.telling import _KEY, Telling


@pytest.mark.parametrize(("status", "refused"), [(200, 1), (429, 3), (504, 3), (499, 1), (None, 1)], ids=str)
def test_inputs_of_a_request_without_an_answer_have_none_unless_the_client_went(status, refused):
    async def app(scope, receive, send):
        facts = scope["state"][_KEY]
        facts.inputs, facts.refused = 3, 1
        if status is not None:
            await send({"type": "http.response.start", "status": status})

    async def send(message):
        pass

    told = []
    telling = Telling(app, SimpleNamespace(answered=told.append))
    asyncio.run(telling({"type": "http", "headers": []}, None, send))
    assert (told[0].status, told[0].refused) == (status or 499, refused)
