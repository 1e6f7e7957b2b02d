from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from peftlab.errors import ConfigError
from peftlab.serving.events import Answered, Computed, Observer
from peftlab.serving.observing import reference
from peftlab.serving.observing.arguments import add_arguments, settings_of
from peftlab.serving.observing.metrics import Metrics
from peftlab.serving.observing.observers import Observers, observer_of
from peftlab.serving.observing.running import exposition, running
from peftlab.serving.settings import Settings


class Failing(Observer):
    def answered(self, request: Answered) -> None:
        raise ValueError("a text that nobody may see")


class Noting(Observer):
    def __init__(self) -> None:
        self.noted: list[str] = []

    def answered(self, request: Answered) -> None:
        self.noted.append(request.request_id)

    def close(self) -> None:
        self.noted.append("closed")


REQUEST = Answered(request_id="r", route="/v1/predict", status=200, seconds=0.1)


def test_one_that_fails_is_reported_once_and_the_others_are_told(caplog):
    noting = Noting()
    observers = Observers(Metrics(), [Failing(), noting])
    for _ in range(3):
        observers.answered(REQUEST)
    observers.close()
    assert noting.noted == ["r", "r", "r", "closed"]
    assert [record.getMessage() for record in caplog.records] == [
        "Failing.answered fails, and is not reported again: ValueError"
    ]


def test_every_event_is_passed_on():
    told: list[str] = []

    class All(Observer):
        def __getattribute__(self, name: str):
            if name in vars(Observer) and not name.startswith("_"):
                return lambda *facts, **more: told.append(name)
            return super().__getattribute__(name)

    observers = Observers(Metrics(), [All()])
    observers.answered(REQUEST)
    observers.computed(Computed(models=(), tokens=0, seconds=0, waited=()))
    observers.predicted("m", [], [])
    observers.queued(1)
    observers.loaded([])
    observers.close()
    assert set(told) == {name for name in vars(Observer) if not name.startswith("_")}


def test_what_is_asked_for_is_observed(tmp_path):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    file = tmp_path / "requests.jsonl"
    options = parser.parse_args(["--request-log", str(file), "--no-drift", "--alerts", "alerts.yml"])
    settings = Settings(runs=("m",), **settings_of(options))
    assert (settings.drift, settings.request_log, settings.otlp, settings.log_texts) == (False, file, None, False)
    card = SimpleNamespace(name="m", run="3f9c2a", identity="ab12", task="ner", method="lora")
    observers = observer_of(settings, SimpleNamespace(names=("m",), card={"m": card}.__getitem__))
    observers.answered(REQUEST)
    observers.close()
    assert len(file.read_text(encoding="utf-8").splitlines()) == 1
    assert b'peftlab_model_info{identity="ab12"' in observers.metrics.exposition()


def test_where_traces_go_is_an_address(capsys):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert parser.parse_args(["--otlp", "https://collector.example"]).otlp == "https://collector.example"
    for odd in ("localhost:4318", "http://", "http://[x", "/v1/traces"):
        with pytest.raises(SystemExit):
            parser.parse_args(["--otlp", odd])
        assert "is no address such as http://127.0.0.1:4318" in capsys.readouterr().err


def test_a_server_that_runs_has_the_numbers_of_its_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "cache_root", lambda: tmp_path)
    with running(Settings(runs=("m",))):
        Metrics().answered(REQUEST)
        assert b"peftlab_requests_total" in exposition()


@pytest.mark.slow
def test_observing_needs_no_torch():
    code = (
        "import sys, peftlab.serving.observing.running, peftlab.serving.observing.observers\n"
        "print([name for name in ('torch', 'lightning') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_rule_about_drift_that_is_not_measured_is_refused(tmp_path):
    file = tmp_path / "alerts.yml"
    file.write_text("rules: [{name: drifted, kind: drift}]\nto: [{file: alerts.jsonl}]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="'drifted' looks at drift, which --no-drift"):
        running(Settings(runs=("m",), alerts=file, drift=False)).__enter__()


def test_a_rule_about_a_model_that_is_not_served_is_refused_or_waits_for_it(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(reference, "cache_root", lambda: tmp_path)
    file = tmp_path / "alerts.yml"
    rule = "{name: slow, kind: latency, above: 1, model: tome}"
    file.write_text(f"rules: [{rule}]\nto: [{{file: {tmp_path}/alerts.jsonl}}]\n", encoding="utf-8")
    settings = Settings(runs=("tone=3f9c",), alerts=file, drift=False)
    with pytest.raises(ConfigError, match=r"'slow' is about 'tome', which is not served\. Did you mean 'tone'"):
        running(settings).__enter__()
    with running(replace(settings, admin_port=9000)):
        assert "it says nothing until a run of that name is loaded" in caplog.text
    caplog.clear()
    with running(replace(settings, runs=("tome=3f9c",))):
        assert not caplog.records
