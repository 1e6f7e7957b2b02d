"""The page of a server in a browser: what a person sees, types and hears. The server is a stand-in with its answers."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.slow.chromium import Browser, installed

from peftlab.serving import page as server_page

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"


def card(name: str, task: str, labels: list[str], example: object, generates: bool = False) -> dict:
    return {
        "name": name,
        "run": "3f9c2a7b1d",
        "task": task,
        "labels": labels,
        "method": "lora",
        "backbone": "minilm",
        "identity": "ab" * 32,
        "max_tokens": 512,
        "generates": generates,
        "mixed": True,
        "example": example,
    }


NER_LABELS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
CARDS = [
    card("newswire-ner", "ner", NER_LABELS, ["Marie", "Curie", "moved", "to", "Paris", "."]),
    card("tweets", "classification", ["negative", "neutral", "positive"], "I love this phone"),
    card(
        "reader", "extractive_qa", [], {"question": "Where was she born?", "context": "Marie Curie was born in Warsaw."}
    ),
    card("chat", "causal_lm", [], [{"role": "user", "content": "Name three rivers."}], generates=True),
    card(HOSTILE, "multilabel", [HOSTILE, "b"], "x"),
]
TEXT = "😀 Marie Curie of the Sorbonne moved from Warsaw to Paris in 1891, read Le Figaro and met Pierre there."


def entity(text: str, type: str, probability: float, within: str = TEXT) -> dict:
    start = within.index(text)
    return {"type": type, "start": start, "end": start + len(text), "text": text, "probability": probability}


def answer(model: str, one: object) -> dict:
    if one == "bad":
        return {"text": one, "error": "inputs[0]: the text has no token"}
    if model == "newswire-ner":
        found = [
            entity(text, type, probability)
            for text, type, probability in (
                ("Marie Curie", "PER", 0.9981),
                ("Sorbonne", "ORG", 0.9312),
                ("Warsaw", "LOC", 0.9994),
                ("Paris", "LOC", 0.9991),
                ("Le Figaro", "MISC", 0.6124),
                ("Pierre", "PER", 0.9877),
            )
        ]
        return {"text": one, "entities": found if one == TEXT else [], "truncated": True, "lost_tokens": 12}
    if model == "tweets":
        shares = {"negative": 0.0213, "neutral": 0.1342, "positive": 0.8445}
        return {"text": one, "predicted": "positive", "probability": 0.8445, "probabilities": shares}
    if model == "reader":
        context = one["context"]
        start = context.index("Warsaw")
        best = [
            {"text": "Warsaw", "start": start, "end": start + 6, "probability": 0.93},
            {"text": "", "probability": 0.04},
        ]
        return {**one, "answer": "Warsaw", "start": start, "end": start + 6, "probability": 0.93, "n_best": best}
    return {
        "text": one,
        "predicted": [HOSTILE],
        "probability": [0.7],
        "probabilities": {HOSTILE: 0.7, "b": 0.2},
        HOSTILE: HOSTILE,
    }


class StandIn:
    """A server with models, which may ask for a key."""

    def __init__(self) -> None:
        stand_in, self.key, self.asked = self, None, []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/":
                    self.reply(200, server_page.document().encode(), "text/html; charset=utf-8")
                elif self.path == "/v1/models" and self.is_known():
                    self.reply(200, json.dumps({"models": CARDS}).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stand_in.asked.append(body)
                if not self.is_known():
                    return
                if body["inputs"] == ["busy"]:
                    self.refuse(429, "overloaded", "the queue is full", "7")
                elif body.get("stream"):
                    self.send_response(200)
                    self.send_header("Content-Type", "application/x-ndjson")
                    self.end_headers()
                    for piece in ("The Rhine, ", "the Nile ", "and the Ganges 😀."):
                        self.wfile.write(json.dumps({"text": piece}).encode() + b"\n")
                        time.sleep(0.02)
                    self.wfile.write(json.dumps({"done": True, "run": "3f9c2a7b1d"}).encode() + b"\n")
                else:
                    answers = [answer(body["model"], one) for one in body["inputs"]]
                    self.reply(
                        200, json.dumps({"model": body["model"], "run": "3f9c2a7b1d", "answers": answers}).encode()
                    )

            def is_known(self) -> bool:
                known = stand_in.key is None or self.headers.get("Authorization") == f"Bearer {stand_in.key}"
                if not known:
                    self.refuse(401, "no_key", "a key is needed")
                return known

            def refuse(self, status: int, code: str, message: str, after: str = "") -> None:
                error = {"error": {"code": code, "message": message, "request_id": "r"}}
                self.reply(status, json.dumps(error).encode(), after=after)

            def reply(self, status: int, content: bytes, kind: str = "application/json", after: str = "") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Content-Security-Policy", server_page.POLICY)
                if after:
                    self.send_header("Retry-After", after)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}/"

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def stand_in():
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (program := installed()):
        pytest.skip("no Chromium is installed: `apt-get install chromium`")
    with Browser(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser, stand_in):
    browser.resize(1280)
    browser.visit(stand_in.address)
    until(browser, "!document.getElementById('ask').disabled")
    return browser


def until(page: Browser, condition: str) -> None:
    for _ in range(400):
        if page.evaluate(condition):
            return
        time.sleep(0.02)
    raise AssertionError(page.evaluate("document.body.innerText"))


def ask(page: Browser, text: str | None, model: str = "newswire-ner") -> str:
    """Choose a model, write a text (None: the example), ask, and return what is then shown."""
    page.evaluate(
        f"(() => {{ const m = document.getElementById('model'); m.value = {json.dumps(model)};"
        "m.dispatchEvent(new Event('change')); })()"
    )
    if text is None:
        page.evaluate("document.getElementById('example').click()")
    else:
        page.evaluate(f"document.querySelector('#fields textarea').value = {json.dumps(text)}")
    page.evaluate("document.getElementById('ask').click()")
    until(page, "document.getElementById('stop').hidden && !document.querySelector('.empty')")
    return page.evaluate("document.getElementById('answers').innerText")


def test_entities_are_marked_where_they_are_with_their_labels(page, stand_in):
    shown = ask(page, TEXT)
    marks = page.evaluate(
        "[...document.querySelectorAll('mark')].map(one => [one.firstChild.data, one.lastChild.innerText])"
    )
    assert marks == [
        ["Marie Curie", "PER"],
        ["Sorbonne", "ORG"],
        ["Warsaw", "LOC"],
        ["Paris", "LOC"],
        ["Le Figaro", "MISC"],
        ["Pierre", "PER"],
    ]  # after a character that JavaScript counts twice
    legend = page.evaluate("[...document.querySelectorAll('#legend span')].map(one => one.innerText)")
    assert legend == ["PER 2", "ORG 1", "LOC 2", "MISC 1"]
    colours = page.evaluate("[...document.querySelectorAll('mark')].map(one => getComputedStyle(one).backgroundColor)")
    assert len(set(colours)) == 4
    assert colours[0] == colours[5]
    assert "12 tokens were not seen" in shown
    assert "61.2 %" in shown
    assert " ms" in shown
    assert stand_in.asked == [{"model": "newswire-ner", "inputs": [TEXT]}]


def test_each_line_is_answered_and_a_bad_one_refused_alone(page, stand_in):
    page.evaluate("document.getElementById('lines').checked = true")
    shown = ask(page, "good one\n\nbad", "tweets")
    assert stand_in.asked[-1]["inputs"] == ["good one", "bad"]
    assert "2 answers, 1 refused" in shown
    assert "the text has no token" in shown
    assert page.evaluate("[...document.querySelectorAll('.share')].map(one => one.innerText)") == [
        "84.5 %",
        "13.4 %",
        "2.1 %",
    ]


def test_the_fields_are_those_of_the_task(page, stand_in):
    shown = ask(page, None, "reader")
    assert stand_in.asked[-1]["inputs"] == [CARDS[2]["example"]]
    assert page.evaluate("[...document.querySelectorAll('#fields label')].map(one => one.innerText)") == [
        "Question",
        "Context",
    ]
    assert page.evaluate("document.querySelector('mark').firstChild.data") == "Warsaw"
    assert "93.0 %" in shown


def test_a_text_appears_as_it_is_written(page, stand_in):
    shown = ask(page, "Name three rivers.", "chat")
    assert stand_in.asked[-1]["stream"] is True
    assert "The Rhine, the Nile and the Ganges 😀." in shown
    assert "first words after" in shown


def test_nothing_that_strangers_write_becomes_markup(page, stand_in):
    shown = ask(page, HOSTILE, HOSTILE)
    assert shown.count(HOSTILE) >= 3
    assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0
    assert page.evaluate("document.title") == "peftlab · ask a model"


def test_it_asks_nobody_else_and_complains_of_nothing(page, stand_in):
    ask(page, TEXT)
    ask(page, None, "chat")
    for dark in (False, True):
        page.resize(390, 844, dark=dark)
    assert page.complaints() == []
    assert {address for address in page.requests() if not address.startswith("data:")} == {
        stand_in.address,
        f"{stand_in.address}v1/models",
        f"{stand_in.address}v1/predict",
    }


def test_what_is_slipped_in_does_not_run(page):
    for script in (
        "document.body.setAttribute('onclick', 'document.title = 1')",
        "document.body.innerHTML = '<b>x</b>'",
        "document.body.append(Object.assign(document.createElement('script'), {text: 'document.title = 1'}))",
    ):
        assert (
            page.evaluate(f"(() => {{ try {{ {script}; }} catch (error) {{ return error.name; }} }})()") == "TypeError"
        )
    assert page.evaluate("document.title") == "peftlab · ask a model"


def test_a_key_is_asked_for_sent_and_kept_nowhere(browser, stand_in):
    stand_in.key = "a-key"
    browser.visit(stand_in.address)
    until(browser, "!document.getElementById('key-field').hidden && !!document.querySelector('.problem')")
    assert "asks for a key" in browser.evaluate("document.getElementById('answers').innerText")
    browser.evaluate(
        "(() => { const key = document.getElementById('key'); key.value = 'a-key';"
        "key.dispatchEvent(new Event('change')); })()"
    )
    until(browser, "!document.getElementById('ask').disabled")
    ask(browser, TEXT)
    assert browser.evaluate("document.querySelectorAll('mark').length") == 6
    assert browser.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    assert "a-key" not in browser.evaluate("document.body.innerText")


def test_failures_are_said_in_words(page, stand_in):
    assert "Try again in 7 seconds" in ask(page, "busy", "tweets")
    page.evaluate("document.getElementById('clear').click()")
    page.evaluate("document.getElementById('ask').click()")
    until(page, "!!document.querySelector('.problem')")
    assert "Write something first" in page.evaluate("document.querySelector('.problem').innerText")
    stand_in.server.shutdown()
    stand_in.server.server_close()
    assert "cannot be reached" in ask(page, "anything", "tweets")


def test_it_is_used_by_keyboard_and_read_aloud(page):
    page.evaluate("document.querySelector('#fields textarea').focus()")
    page.evaluate(f"document.querySelector('#fields textarea').value = {json.dumps(TEXT)}")
    page.do("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, modifiers=2)
    until(page, "document.querySelectorAll('mark').length == 6")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, select, textarea, button')]"
        ".filter(one => !one.labels?.length && !one.getAttribute('aria-label') && !one.textContent.trim()).length"
    )
    assert unnamed == 0
    assert page.evaluate("document.getElementById('status').getAttribute('role')") == "status"
    tree = page.do("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in tree if not node.get("ignored")]
    assert {"heading", "combobox", "textbox", "button", "status", "mark", "table"} <= set(roles)


def test_it_fits_every_window(page, tmp_path):
    ask(page, TEXT)
    for width, height in ((390, 844), (1280, 900)):
        for dark in (False, True):
            page.resize(width, height, dark=dark)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.screenshot(tmp_path / f"{width}-{'dark' if dark else 'light'}.png")
            assert [pair for pair in contrasts(page) if pair["ratio"] < 4.5] == []


def contrasts(page: Browser) -> list[dict]:
    """The contrast of each piece of text with what is behind it, as WCAG 2.2 computes it."""
    return page.evaluate(
        """(() => {
          const linear = value => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
          const light = colour => {
            const [r, g, b] = colour.map(value => linear(value / 255));
            return .2126 * r + .7152 * g + .0722 * b;
          };
          const parse = colour => colour.match(/[\\d.]+/g).map(Number);
          const behind = one => {
            for (; one; one = one.parentElement) {
              const colour = parse(getComputedStyle(one).backgroundColor);
              if (colour.length < 4 || colour[3] === 1) return colour.slice(0, 3);
            }
            return [255, 255, 255];
          };
          const written = "mark, mark b, #legend span, td, th, dt, dd, label, button, #status, .note, small";
          return [...document.querySelectorAll(written)]
            .filter(one => one.innerText.trim() && !one.disabled && one.offsetParent)
            .map(one => {
              const both = [light(parse(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x);
              return { text: one.innerText.slice(0, 20), ratio: (both[0] + .05) / (both[1] + .05) };
            });
        })()"""
    )
