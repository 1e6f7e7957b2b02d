"""A stream whose texts a finished run answers."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.train.test_classification import LEARNING, finished_texts, texts  # noqa: F401  # fixtures

pytestmark = pytest.mark.slow


@pytest.fixture
def stream(tiny_texts):
    """Write a file with so many of the tiny texts a day, of which some may be of one label alone."""
    rows = list(csv.DictReader((tiny_texts / "train.csv").open()))

    def write(days, of=None):
        with Path("stream.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["when", "body", "region"])
            for day in range(days):
                some = [row for row in rows if day < 8 or of in (None, row["label"])]
                for n in range(40):
                    when = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=day, minutes=n)
                    body = f"{some[(n + 7 * day) % len(some)]['text']} {'again ' * (n // len(some))}"
                    writer.writerow([when.isoformat(), body, "north" if n % 2 else "south"])

    return write


@pytest.mark.one_in(2, "exhaustive")
@pytest.mark.parametrize("correction", ["none", "em"])
def test_a_run_answers_the_texts(peftlab, finished_texts, stream, correction):  # noqa: F811
    Path("watch.yaml").write_text(f"correction: {correction}\nbaseline: 8\nmin_count: 10\nsinks: [{{to: lines}}]\n")
    command = ["watch", finished_texts.folder, "--stream", "stream.csv", "--time", "when", "--text", "body"]
    command += ["--by", "region", "--config", "watch.yaml", "--out", "w"]
    stream(6)
    code, out, err = peftlab(*command)
    assert (code, "the baseline is not complete" in out) == (0, True), err
    stream(12, of="hire")
    code, out, err = peftlab(*command, "--final", "--json")
    document = json.loads(out)
    assert code == 0, err
    assert document["rows"] == 12 * 40
    assert {"confidence of opinion", "unknown words", "opinion=hire in region=north"} <= set(document["series"])
    hired = [one for one in document["alerts"] if one["series"] == "opinion=hire" and one["state"] == "open"]
    if correction == "none":  # so small a model has no calibrated probabilities
        [first] = [one["window"]["start"][:10] for one in hired]
        assert first in ("2026-03-09", "2026-03-10"), "in the first window of the shift, or in the second"
        assert "opinion=hire rises" in Path("w/report.html").read_text()
    windows = json.loads(Path("w/state.json").read_text())["windows"]
    if correction == "em":
        shares = [window["estimates"]["opinion=hire"][1] for window in windows]
        assert shares[-1] > max(shares[:8])
    assert [json.loads(line) for line in Path("w/alerts.jsonl").read_text().splitlines()] == document["alerts"]


def test_scores_need_no_model(peftlab, tmp_path):
    lines = [
        {"at": f"2026-03-{1 + n // 20:02}", "predicted": "good" if n % 3 else "bad", "probability": 0.9}
        for n in range(200)
    ]
    Path("scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["watch", "--scored", "--stream", "scores.jsonl", "--time", "at", "--out", "w"]
    code, _, err = peftlab(*command)
    assert code == 2
    assert "correction: adjusted needs the errors of a run" in err
    Path("watch.yaml").write_text("{correction: none, baseline: 6, min_count: 10}")
    code, out, _ = peftlab(*command, "--config", "watch.yaml", "--final")
    assert code == 0
    assert "no alert" in out
    assert peftlab("watch", "--stream", "x", "--time", "at", "--out", "v")[0] == 2
    code, _, err = peftlab(*command, "--config", "watch.yaml", "--by", "area", "--by", "area")
    assert (code, "--by area: is given twice" in err) == (2, True)
