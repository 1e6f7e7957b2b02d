from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from peftlab.config import build
from peftlab.errors import ConfigError
from peftlab.loggers import wandb
from peftlab.loggers.wandb import CLOSE_SECONDS, LOCAL_SECONDS, Wandb, what_ails


@contextmanager
def server(status: int | None) -> Iterator[str]:
    """Serve answers with `status`; None: never answer."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if status is None:
                over.wait()
                return
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=[0.01], daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        over.set()
        http.shutdown()


@pytest.mark.parametrize(
    ("status", "seconds", "trouble"),
    [(200, 30, None), (404, 30, None), (500, 30, "HTTP 500"), (None, 0.2, "no answer within 0.2 s")],
)
def test_a_server_is_asked_whether_it_is_there(status, seconds, trouble):
    with server(status) as url:
        assert what_ails(url, seconds) == trouble


def test_a_server_that_is_gone():
    with server(200) as url:
        pass
    assert what_ails(url, 30) == "ConnectionError"


@pytest.mark.parametrize(
    ("mode", "wall_seconds", "trouble", "asked", "patience"),
    [
        ("online", 1000, None, 40 - CLOSE_SECONDS, 40 - CLOSE_SECONDS),
        ("online", 1000, "HTTP 500", 40 - CLOSE_SECONDS, 0),
        ("online", 20, None, 0.5, 5 - CLOSE_SECONDS),
        ("online", 20, "no answer", 0.5, 0),
        ("online", None, None, 0.5, 5 - CLOSE_SECONDS),
        ("offline", 20, None, None, LOCAL_SECONDS),
    ],
)
def test_how_long_the_end_waits(monkeypatch, tmp_path, mode, wall_seconds, trouble, asked, patience):
    """Of a server that fails no longer than a share of the run's time, closing included, but in short runs."""
    questions = []
    monkeypatch.setattr(wandb, "what_ails", lambda url, seconds: questions.append((url, seconds)) or trouble)
    run = SimpleNamespace(settings=SimpleNamespace(mode=mode, base_url="http://it"))
    record = SimpleNamespace(data={"cost": {"wall_seconds": wall_seconds}})
    assert Wandb(tmp_path)._patience(record, run) == pytest.approx(patience, abs=1)
    assert questions == ([] if asked is None else [("http://it", pytest.approx(asked))])


LONG = "customer_feedback_2026_" + "regions_" * 6 + "v2"


@pytest.mark.parametrize(
    ("options", "environment", "told"),
    [
        (
            {"tags": ["fine", LONG]},
            {},
            f"tags = '{LONG}' has 73 characters: W&B takes 1 to 64. ",
        ),
        ({"tags": [""]}, {}, "tags = '' has 0 characters"),
        ({"name": "长" * 129}, {}, "name = "),
        ({"group": "g" * 129}, {}, "group = "),
        ({"job_type": "j" * 65}, {}, "job_type = "),
        ({"project": "p" * 129}, {}, "project = "),
        ({"project": "a/b:c"}, {}, "project = 'a/b:c': W&B takes none of / : in it. Leave it out"),
        ({}, {"WANDB_PROJECT": "a#b"}, "project (from WANDB_PROJECT) = 'a#b'"),
        ({}, {"WANDB_RUN_ID": "a/b"}, "id (from WANDB_RUN_ID) = 'a/b'"),
        ({}, {"WANDB_RUN_ID": "i" * 129}, "id (from WANDB_RUN_ID) = "),
        ({}, {"WANDB_RUN_GROUP": "g" * 129}, "group (from WANDB_RUN_GROUP) = "),
    ],
)
def test_a_label_that_is_the_users_and_too_long_is_refused(options, environment, told, monkeypatch):
    for variable, text in environment.items():
        monkeypatch.setenv(variable, text)
    assert Wandb.refuse(options).startswith(told)
    node = {"_target_": "peftlab.loggers.wandb.Wandb", **options}
    with pytest.raises(ConfigError) as refused:
        build({"logger": {"wandb": node}}, "")
    assert str(refused.value).startswith(f"logger.wandb.{told}")


def test_labels_that_fit_are_taken(monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "a/b")  # not the one that counts
    options = {"tags": ["t" * 64, "长" * 64], "name": "n" * 128, "group": "g" * 128, "job_type": "j" * 64}
    assert Wandb.refuse({**options, "project": "p" * 128}) is None
    assert Wandb.refuse({"project": "p", "tags": None, "names": [LONG]}) is None


def test_labels_of_our_own_are_shortened_and_stay_apart(tmp_path):
    names = ["ner", LONG + "1", LONG + "2", "长" * 70, "ner"]
    tags = Wandb(tmp_path, names=names).labels["tags"]
    assert len(tags) == len(set(tags)) == 4
    assert max(map(len, tags)) <= 64
    assert tags[0] == "ner"
    assert all(tag[:50] == name[:50] for tag, name in zip(tags, names, strict=False))
    assert Wandb(tmp_path, names=names, tags=["mine"]).labels["tags"] == ["mine"]
    record = SimpleNamespace(data={"name": "x" * 200, "run_id": "3f9c2a71d0be"}, folder=tmp_path)
    name = wandb._run_name(record)
    assert (len(name), name[-13:]) == (128, "-3f9c2a71d0be")
    artifact = wandb._artifact(record, "my run " * 18, None)
    assert len(artifact.name.partition(":")[0]) <= 128
    assert " " not in artifact.name


def test_the_artifact_of_a_sweep_is_its_report(tmp_path):
    record = SimpleNamespace(data={"name": "a", "run_id": "sweep"}, folder=tmp_path)
    (tmp_path / "report" / "figures").mkdir(parents=True)
    for name in ("report.html", "figures/a.svg"):
        (tmp_path / "report" / name).write_text(name)
    artifact = wandb._artifact(record, "abc", tmp_path / "report")
    assert artifact.type == "report"
    assert set(artifact.manifest.entries) == {"report/report.html", "report/figures/a.svg"}
