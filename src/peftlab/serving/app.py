"""The routes of a server: questions to models, and whether it can answer them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.exceptions import HTTPException

from peftlab.errors import UserError
from peftlab.runs.notice import as_header
from peftlab.serving import bodies, page, reference
from peftlab.serving.access.guard import Guard
from peftlab.serving.access.refusals import Refusal
from peftlab.serving.batching import Batcher, Ended, Outcome, tokens_of
from peftlab.serving.events import Observer
from peftlab.serving.replies import encoded, json_response, misshapen, unrouted
from peftlab.serving.settings import Settings
from peftlab.serving.telling import Facts, Telling, told
from peftlab.use.predictor import Refused

if TYPE_CHECKING:
    from peftlab.serving.models.models import ModelCard, Models, Query

ABOUT = """Answers of fine-tuned models. Each answer is that of `peftlab predict`; the response names the run that
trained the model. Errors have one form, and every response has the header `x-request-id`."""

FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": bodies.Failed, "description": why}
    for status, why in {
        400: "the body is no JSON",
        401: "a key is missing or not valid",
        403: "the key is not for this model",
        404: "there is no such model",
        413: "the body is too large, or has too many inputs",
        422: "the body has another form, or an option cannot be used",
        429: "too many inputs wait, or the caller has asked too often: see Retry-After",
        503: "the server takes no more requests",
        504: "the answer took too long",
    }.items()
}


def create(
    settings: Settings,
    models: Models,
    observer: Observer,
    guard: Guard,
    meanwhile: Callable[[Batcher], Coroutine[Any, Any, None]] | None = None,
) -> FastAPI:
    """Return the application of the public listener.

    Args:
        settings: the limits of a request.
        models: the models, loaded.
        observer: is told what happens.
        guard: lets callers in, and says who they are.
        meanwhile: is run as long as the application is.
    """
    batcher = Batcher(models, settings, observer)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with batcher:
            beside = asyncio.create_task(meanwhile(batcher)) if meanwhile else None
            yield
            if beside:
                beside.cancel()
        observer.close()

    app = FastAPI(
        title="peftlab",
        description=ABOUT,
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # its logs would quote bodies
    )
    app.include_router(_answering(settings, models, batcher, observer, guard))
    app.include_router(_about(app, models, batcher, guard))
    app.add_exception_handler(RequestValidationError, misshapen)
    app.add_exception_handler(HTTPException, unrouted)
    app.add_middleware(guard.around)
    app.add_middleware(Telling, observer=observer)  # outermost: it sees what the guard refuses too
    return app


def _answering(settings: Settings, models: Models, batcher: Batcher, observer: Observer, guard: Guard) -> APIRouter:
    """Return the route that answers."""
    routes = APIRouter(responses=FAILURES)

    @routes.post("/v1/predict", response_model=bodies.Answers, openapi_extra=_examples(models))
    async def predict(asked: bodies.Asked, request: Request) -> Response:
        """Answer texts.

        With `stream`, lines of JSON: `{"text": ...}` for each piece, then `{"done": true, ...}`, which says the rest
        of an answer, such as `stopped` and `truncated`, or `{"error": ...}`.
        """
        caller = guard.caller(request)
        name = _chosen(asked, models)
        guard.check(caller, name)
        card = _card(models, name)
        options = asked.options.model_dump(exclude_none=True) if asked.options else {}
        _check(asked, card, options, settings)
        facts = told(request)
        facts.model, facts.inputs = name, len(asked.inputs)

        read: list[Query | None] = []
        remarks: dict[str, Any] = {}

        def admit(queries: Sequence[Query | None]) -> None:
            facts.tokens = tokens_of(queries)
            guard.spend(caller, facts.tokens)
            if asked.stream and queries[0]:
                read.extend(queries)
                remarks.update(models.remarks(queries[0]))

        def written(text: str, stopped: bool) -> dict[str, Any]:
            _tell(
                observer, name, asked.inputs, Outcome(read, [{"written": text, "stopped": stopped}]), facts.request_id
            )
            return {"done": True, **about, "stopped": stopped, **remarks, "request_id": facts.request_id}

        about = {"model": name, "run": card.run, "identity": card.identity}
        notice = {} if card.notice is None else {"x-notice": as_header(card.notice)}
        question = (caller.name, facts.request_id, options, admit)
        try:
            if asked.stream:
                pieces = batcher.stream(name, asked.inputs[0], *question)
                return await _streamed(pieces, written, facts, settings.timeout_s, notice)
            work = batcher.answers(name, asked.inputs, *question)
            outcome = await _unless_gone(request, work, settings.timeout_s)
        except UserError as error:
            raise Refusal(422, "invalid", str(error)) from None
        facts.refused = sum(isinstance(one, Refused) for one in outcome.answers)
        _tell(observer, name, asked.inputs, outcome, facts.request_id)
        answers = [one.at(f"inputs[{n}]") if isinstance(one, Refused) else one for n, one in enumerate(outcome.answers)]
        return json_response({**about, "answers": answers, "request_id": facts.request_id}, notice)

    return routes


def _about(app: FastAPI, models: Models, batcher: Batcher, guard: Guard) -> APIRouter:
    """Return the routes that say what there is."""
    routes = APIRouter()

    @routes.get("/v1/models", response_model=bodies.Cards, responses={401: FAILURES[401]})
    async def cards(request: Request) -> Response:
        """List the models that the caller may use."""
        caller = guard.caller(request)
        shown = [vars(models.card(name)) for name in models.names if caller.may(name)]
        return json_response({"models": [{key: card[key] for key in bodies.Card.model_fields} for card in shown]})

    @routes.get("/livez", response_model=bodies.State)
    async def alive() -> Response:
        """Say that the process is alive."""
        return json_response({"status": "alive"})

    @routes.get("/readyz", response_model=bodies.State, responses={503: FAILURES[503]})
    async def ready() -> Response:
        """Say whether it answers: its models are loaded, and it is not being stopped."""
        if batcher.draining:
            raise Refusal(503, "draining", "the server takes no more requests")
        if not models.names:
            raise Refusal(503, "no_models", "the server has no models")
        return json_response({"status": "ready"})

    @routes.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(reference.document(app.openapi()), headers={"content-security-policy": reference.POLICY})

    @routes.get("/", include_in_schema=False)
    async def index() -> Response:
        return HTMLResponse(page.document(), headers={"content-security-policy": page.POLICY})

    return routes


def _chosen(asked: bodies.Asked, models: Models) -> str:
    if (name := asked.model or models.default) is None:
        raise Refusal(422, "invalid", "model: there are several; name one of GET /v1/models")
    return name


def _card(models: Models, name: str) -> ModelCard:
    if name not in models.names:
        raise Refusal(404, "unknown_model", "there is no such model; GET /v1/models lists those that there are")
    return models.card(name)


def _check(asked: bodies.Asked, card: ModelCard, options: dict[str, Any], settings: Settings) -> None:
    """Refuse what the model or the server cannot do."""
    if len(asked.inputs) > (most := min(settings.max_inputs, settings.queue)):
        raise Refusal(413, "too_many_inputs", f"inputs: at most {most} in one request")
    if not card.generates and (options or asked.stream):
        raise Refusal(422, "invalid", "options and stream are for models that generate, and this one does not")
    if asked.stream and len(asked.inputs) != 1:
        raise Refusal(422, "invalid", "stream: one text is written at a time; send one input")
    if options.get("max_new_tokens", 1) > settings.max_new_tokens:
        raise Refusal(422, "invalid", f"options.max_new_tokens: at most {settings.max_new_tokens}")


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Outcome], timeout: float) -> Outcome:
    """Return what `work` returns, and cancel it after `timeout` seconds or when the client has gone."""
    answering, leaving = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({answering, leaving}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return answering.result()
        if leaving.done():
            raise Refusal(499, "gone", "the client has gone")
        raise Refusal(504, "timeout", f"there is no answer after {timeout:g} seconds")
    finally:
        answering.cancel()
        leaving.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _streamed(
    pieces: AsyncGenerator[str | Ended],
    written: Callable[[str, bool], dict[str, Any]],
    facts: Facts,
    timeout: float,
    headers: dict[str, str],
) -> Response:
    """Return a response that sends `pieces` as they are written; when the client goes, no more are.

    Its last line is what `written` returns of the whole text and whether the model ended it, or an error.
    """
    late = asyncio.get_running_loop().time() + timeout
    try:
        async with asyncio.timeout_at(late):
            first = await anext(pieces)  # until then, a failure has a status of its own
    except TimeoutError:
        raise Refusal(504, "timeout", f"there is no text after {timeout:g} seconds") from None

    async def lines() -> AsyncIterator[bytes]:
        piece, text = first, ""
        facts.error = "gone"  # if the client does not wait for the end: the status, 200, was sent before
        async with aclosing(pieces):
            try:
                while not isinstance(piece, Ended):
                    yield _line({"text": piece})
                    text += piece
                    async with asyncio.timeout_at(late):
                        piece = await anext(pieces)
                end, facts.error = written(text, piece.stopped), None
            except TimeoutError:
                end = _error("timeout", f"the text is not complete after {timeout:g} seconds", facts)
            except Refusal as refusal:
                end = _error(refusal.code, refusal.message, facts)
            except UserError as error:
                end = _error("invalid", str(error), facts)
        yield _line(end)

    return StreamingResponse(lines(), media_type="application/x-ndjson", headers=headers)


def _error(code: str, message: str, facts: Facts) -> dict[str, Any]:
    """Return the last line of a text that breaks off, and note it: the status, 200, was sent before."""
    facts.error, facts.refused = code, 1
    return {"error": {"code": code, "message": message, "request_id": facts.request_id}}


def _tell(observer: Observer, model: str, inputs: list[Any], outcome: Outcome, request_id: str) -> None:
    """Tell the observer of the inputs that have answers."""
    answered = [n for n, one in enumerate(outcome.answers) if not isinstance(one, Refused)]
    queries = [outcome.queries[n] for n in answered]
    observer.predicted(
        model,
        [inputs[n] for n in answered],
        [outcome.answers[n] for n in answered],  # type: ignore[misc]  # the others are left out
        request_id=request_id,
        tokens=[query.tokens for query in queries if query],
        unknown=[query.unknown for query in queries if query],
    )


def _examples(models: Models) -> dict[str, Any]:
    """Return the part of the OpenAPI document that shows an input of each model."""
    examples = {name: {"value": {"model": name, "inputs": [models.card(name).example]}} for name in models.names}
    return {"requestBody": {"content": {"application/json": {"examples": examples}}}}


def _line(document: Any) -> bytes:
    return encoded(document) + b"\n"
