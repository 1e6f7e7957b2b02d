"""What joins an example with the rest: the sweep, the report and the request to a server that its README gives.

They stand in its blocks of the language ``text``, and are run small here, in the current folder.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from peftlab import cli
from peftlab.runs.record import RunRecord
from peftlab.serving.access.guard import Guard
from peftlab.serving.app import create
from peftlab.serving.events import Observer
from peftlab.serving.models.models import Models
from peftlab.serving.settings import Settings


def sweep_and_report(example: Path, tiny: Sequence[str]) -> dict[str, Any]:
    """Run the sweep of a README with one of its seeds, and the report on it.

    Args:
        tiny: overrides that make a trial small; they take the place of those of the README.

    Returns:
        The only comparison of the report, as it has it in numbers.
    """
    of_tiny = {word.partition("=")[0]: word for word in tiny}
    words = [of_tiny.pop(word.partition("=")[0], word) for word in _words(example, "peftlab train -m")]
    (about,) = (word for word in words if "," in word and word != "seed=0,1,2")
    words[words.index("seed=0,1,2")] = "seed=0"
    words += [
        *of_tiny.values(),
        "trainer=cpu",
        "logger=[]",
        "callbacks=[]",
        "sweep.report=false",
        "sweep.probe_seconds=0",
    ]
    _run(words)
    report = _words(example, "peftlab report")
    folder = Path(report[2])
    records = [RunRecord.load(file.parent).data for file in folder.glob("*/record.json")]
    assert [record["status"] for record in records] == ["completed"] * len(about.split(","))
    (comparison,) = json.loads(_run([*report, "--json"]))["comparisons"]
    assert (folder / "report" / "report.html").is_file()
    assert len(comparison["groups"]) == len(records)
    return dict(comparison)


def response(example: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Serve `run` as a README does, in this process and at a free port, and return what its request prints."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    served: list[Settings] = []
    monkeypatch.setattr("peftlab.serving.server.serve", lambda settings, _: served.append(settings))
    _, verb, _, *options = _words(example, "peftlab serve")
    cli.main([verb, str(run), *options])
    (settings,) = served
    models = Models(settings.runs, fallback=settings.fallback)
    app = create(settings, models, Observer(), Guard(settings))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:  # which takes connections from now on
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        request = _line(example, "curl ").replace("127.0.0.1:8000", host)
        try:
            assert host in request
            return subprocess.run(["bash", "-c", request], capture_output=True, text=True, check=True).stdout
        finally:
            server.should_exit = True
            thread.join()


def _line(example: Path, part: str) -> str:
    blocks = re.findall(r"```text\n(.*?)```", (example / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (line,) = (line for block in blocks for line in block.splitlines() if part in line)
    return str(line)


def _words(example: Path, part: str) -> list[str]:
    return shlex.split(_line(example, part), comments=True)


def _run(words: Sequence[str]) -> str:
    command = [sys.executable, "-m", *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
