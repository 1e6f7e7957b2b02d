"""A watch over made-up rows: alerts, late rows, repeats, and calls that go on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from peftlab.errors import ConfigError
from peftlab.opinion.correction import Confusion
from peftlab.opinion.intake import Columns, Intake, normal_form
from peftlab.opinion.page import remarks, write
from peftlab.opinion.questions import Question
from peftlab.opinion.series import asked
from peftlab.opinion.settings import Settings, read
from peftlab.opinion.stream import Stream
from peftlab.opinion.watching import Watch

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
LABELS = ("negative", "neutral", "positive")


def rows(days, size=80, shift_at=12, seed=0):
    """Return rows of labels, whose negative share rises from .3 to .6."""
    random = np.random.default_rng(seed)
    made = []
    for day in range(days):
        shares = (0.3, 0.4, 0.3) if day < shift_at else (0.6, 0.2, 0.2)
        for n in range(size):
            label = LABELS[random.choice(3, p=shares)]
            at = BEGIN + timedelta(days=day, seconds=n * 86000 / size)
            sure = round(float(random.uniform(0.5, 1)), 3)
            made.append(
                {"at": at.isoformat(), "text": f"Text {day}-{n}", "opinion": label, "opinion_probability": sure}
            )
    return made


def watched(folder, *calls, final=True, text="text", **settings):
    """Give rows to a watch, call by call, and return the last one."""
    chosen = Settings(correction="none", baseline=10, min_count=20, **settings)
    folder.mkdir(exist_ok=True)
    for number, some in enumerate(calls):
        questions = [Question("opinion")]
        watch = Watch(folder, chosen, {"settings": settings}, questions, asked(None, ["opinion"], 1))
        file = folder / f"part-{number}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in some))
        watch.read(Stream(str(file), ["at"]), Intake(questions, Columns("at", text, scored=("opinion",))))
        if final and number == len(calls) - 1:
            watch.finish()
        watch.save()
    return watch


@pytest.mark.slow
def test_a_shift_is_told_with_its_size_and_its_texts(tmp_path):
    watch = watched(tmp_path / "w", rows(16))
    (alert,) = [one for one in watch.alerts if one["series"] == "opinion=negative"]
    assert (alert["direction"], alert["state"]) == ("up", "open")
    assert alert["window"]["start"] == (BEGIN + timedelta(days=12)).isoformat()
    assert alert["before"] == pytest.approx(0.3, abs=0.05)
    assert alert["interval"]["low"] < 0.3 < alert["interval"]["high"]
    assert alert["interval"]["low"] > 0
    assert len(set(alert["texts"])) == len(alert["texts"]) == 10
    assert all(text.startswith("Text 12-") for text in alert["texts"])
    assert alert["false_alarms"]["simulated"] <= 1
    fallen = next(one for one in watch.alerts if one.get("direction") == "down" and one["series"].startswith("opinion"))
    assert fallen["texts_of"] == "opinion=negative"
    page = write(watch).read_text(encoding="utf-8")
    assert "opinion=negative rises" in page
    assert "Text 12-" in page


@pytest.mark.parametrize(
    "odd",
    [{"opinion": "cut \ud83d"}, {"text": "cut \ud83d"}, {"at": "\ud83d"}, {"opinion_probability": 10**400}],
    ids=lambda odd: next(iter(odd)),
)
def test_no_row_ends_a_watch(tmp_path, odd):
    some = rows(1, size=5)
    some[2] |= odd
    for final in (False, True):
        watch = watched(tmp_path / f"{final}", some, final=final)
        assert watch.counts.rows == 5
        assert watch.counts.faults == ("at" in odd)


def test_probabilities_that_no_share_follows_from_are_a_fault():
    labels = ("no", "yes")
    question = Question("opinion", list(labels), Confusion(labels, np.full((2, 2), 20.0)))
    odd = [(float("nan"), 0.5), (10**400, 0), (-0.5, 1.5), (0, 0), (0.4, 0.6)]
    scored = [{"opinion": {"predicted": "no", "probabilities": dict(zip(labels, two, strict=True))}} for two in odd]
    faults = []
    intake = Intake([question], Columns("at", None, scored=("opinion",)), all_probabilities=True)
    kept = intake.rows(scored, [0] * 5, range(5), lambda place, what: faults.append(place))
    assert faults == [0, 1, 2, 3]
    assert kept.probabilities[0].tolist() == [[0.4, 0.6]]


def test_a_row_whose_column_is_empty_is_of_no_group():
    questions = [Question("opinion"), Question("region")]
    intake = Intake(questions, Columns("at", None, ("region",), ("opinion",)))
    rows = [{"opinion": "good", "region": cell} for cell in ("north", None, "", " ", 0)]
    intake.rows(rows, [0] * 5, range(5), lambda *fault: pytest.fail(str(fault)))
    assert questions[1].labels == ["north", "(none)", "0"]


def test_a_date_that_stands_for_never_is_the_fault_of_its_row(tmp_path):
    some = rows(1, size=3)
    some.insert(1, {**some[0], "at": "9999-12-31"})
    watch = watched(tmp_path / "w", some)
    assert (watch.counts.rows, watch.counts.faults) == (4, 1)
    assert watch.counts.reasons[0].endswith(
        "part-0.jsonl:2: the time is too near to the year 1 or to the end of 9999 to lie in a window"
    )
    assert sum(watch.windows[0].cells.values()) == 3


def test_a_first_row_that_sets_all_others_aside_is_told(tmp_path):
    some = rows(2)
    assert remarks(watched(tmp_path / "right", some, final=False)) == []
    watch = watched(tmp_path / "wrong", [{**some[0], "at": "1970-01-02"}, *some], final=False)
    (said,) = remarks(watch)
    assert said.startswith("160 of 161 rows are set aside")
    assert "1970-01-02 00:00:00+00:00, the newest time that counts" in said
    assert "160 of 161 rows" in write(watch).read_text(encoding="utf-8")


@pytest.mark.slow
def test_several_calls_give_what_one_gives(tmp_path):
    all_rows = rows(18)
    late = [{**all_rows[0], "text": "late"}]
    stream = [*all_rows[:500], *late, *all_rows[500:]]
    whole = watched(tmp_path / "whole", stream, lateness=7200.0)
    parts = [stream[:333], stream[333:334], stream[334:901], [], stream[901:]]
    several = watched(tmp_path / "several", *parts, lateness=7200.0)
    assert several.alerts == whole.alerts
    assert [window.as_json() for window in several.windows] == [window.as_json() for window in whole.windows]
    assert several.clocked.late == whole.clocked.late == 1


def named(watch):
    (question,) = watch.questions
    return [{question.labels[label]: count for (label,), count in one.cells.items()} for one in watch.windows]


@pytest.mark.slow
def test_rows_out_of_order_count_within_lateness(tmp_path):
    made = rows(12)
    random = np.random.default_rng(0)
    moved = [made[n] for n in np.argsort(np.arange(len(made)) + random.uniform(0, 60, len(made)))]
    ordered = watched(tmp_path / "a", made, lateness=86400.0)
    shuffled = watched(tmp_path / "b", moved, lateness=86400.0)
    assert shuffled.clocked.late == 0
    assert named(shuffled) == named(ordered)
    assert watched(tmp_path / "c", moved).clocked.late > 0


@pytest.mark.slow
def test_a_retweet_counts_once_a_window(tmp_path):
    made = rows(12)
    storm = [{**made[-1], "text": f"RT @somebody: {made[-1]['text'].upper()} https://t.co/{n}"} for n in range(303)]
    watch = watched(tmp_path / "once", made + storm)
    assert watch.counts.repeats == 303
    assert sum(watch.windows[-1].cells.values()) == 80
    assert sum(watched(tmp_path / "all", made + storm, repeats="all").windows[-1].cells.values()) == 383
    silent = [{**made[-1], "text": text} for text in (None, None, "", "")]  # no repeats of each other
    assert sum(watched(tmp_path / "silent", made + silent).windows[-1].cells.values()) == 84
    assert normal_form("RT @a: Hello  World http://x.y") == normal_form("hello world") == "hello world"


@pytest.mark.slow
def test_windows_without_texts_and_times_far_ahead(tmp_path):
    made = [row for row in rows(16, shift_at=99) if not row["at"].startswith("2026-01-17")]
    wrong = {**made[0], "at": "2206-01-01"}
    watch = watched(tmp_path / "w", [*made[:100], wrong, *made[100:]])
    assert watch.clocked.ahead == 1
    assert len(watch.windows) == 16
    assert not watch.windows[12].cells
    broken = [{**made[0], "at": "soon"}, {**made[0], "opinion": None}]
    watch = watched(tmp_path / "v", [*broken, *made])
    assert watch.counts.faults == 2
    assert "is no time" in watch.counts.reasons[0]


@pytest.mark.slow
def test_a_baseline_of_a_period(tmp_path):
    settings = Settings(correction="none", baseline="2026-01-07/2026-01-16", min_count=20)
    questions = [Question("opinion")]
    watch = Watch(tmp_path, settings, {}, questions, asked(None, ["opinion"], 1))
    file = tmp_path / "s.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(16)))
    watch.read(Stream(str(file), ["at"]), Intake(questions, Columns("at", "text", scored=("opinion",))))
    watch.finish()
    assert watch.base == slice(2, 11)
    first = next(one for one in watch.alerts if one["series"] == "opinion=negative")
    assert first["window"]["start"] == "2026-01-17T00:00:00+00:00"
    assert first["since"] in ("2026-01-16T00:00:00+00:00", "2026-01-17T00:00:00+00:00")


@pytest.mark.slow
def test_that_the_texts_have_changed_is_told(tmp_path):
    made = rows(16)
    for row in made[80 * 12 :]:
        row["opinion_probability"] = round(row["opinion_probability"] * 0.6, 3)
    watch = watched(tmp_path / "w", made)
    opened = [one for one in watch.alerts if one["state"] == "open"]
    assert "confidence of opinion" in {one["series"] for one in opened}
    assert any("texts themselves have changed" in note for one in opened for note in one["notes"])


def test_a_folder_of_another_watch_is_refused(tmp_path):
    watched(tmp_path / "w", rows(3))
    with pytest.raises(ConfigError, match="was begun with other settings"):
        watched(tmp_path / "w", rows(3), seed=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("windows: 1d", "no key 'windows'. Did you mean 'window'"),
        ("window: 1 fortnight", "expected a length of time"),
        ("baseline: 3", "5"),
        ("baseline: lately", "neither a number of windows nor a period"),
        ("season: 7\nbaseline: 14", "at least 21"),
        ("detector: cumsum", "Did you mean 'cusum'"),
        ("detector: {kind: ewma, weight: 2}", "weight"),
        ("sinks: [{to: webhook}]", "expected `url`"),
        ("zone: Mars", "no time zone"),
        ("- a", "expected keys and values"),
    ],
)
def test_settings_that_cannot_be(tmp_path, text, said):
    file = tmp_path / "watch.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        read(file)
    assert said in str(error.value)
    assert str(file) in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_clear_shift_begins_where_an_offline_search_sees_it(tmp_path, seed):
    from ruptures import Binseg

    watch = watched(tmp_path, rows(24, shift_at=16, seed=seed), false_alarms_per_month=0.1)
    column = [one.name for one in watch.chart.series].index("opinion=negative")
    (found, _) = Binseg(model="l2", min_size=3, jump=1).fit(watch.values(watch.windows).x[:, column]).predict(n_bkps=1)
    (alert,) = [one for one in watch.alerts if one["series"] == "opinion=negative"]
    opened = datetime.fromisoformat(alert["window"]["start"])
    assert 0 <= (opened - BEGIN).days - found <= 1
    assert found == 16


def test_the_windows_of_a_baseline_are_not_looked_for_with_each_window_before_it_is_over(tmp_path, monkeypatch):
    settings = Settings(correction="none", baseline="2026-01-05/2026-03-01")
    questions, looked = [Question("opinion")], []
    watch = Watch(tmp_path, settings, {}, questions, asked(None, ["opinion"], 1))
    monkeypatch.setattr(Watch, "base", property(looked.append))
    file = tmp_path / "s.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(12, size=2)))
    watch.read(Stream(str(file), ["at"]), Intake(questions, Columns("at", "text", scored=("opinion",))))
    assert (len(watch.windows), watch.chart, looked) == (11, None, [])
