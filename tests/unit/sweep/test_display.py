"""How a sweep shows itself."""

from __future__ import annotations

import pytest

from peftlab.sweep.board import Trial
from peftlab.sweep.display import drawing, line, print_status
from peftlab.terminal.console import console


@pytest.fixture
def standing(board):
    board.total, board.estimate_seconds, board.price_per_device_hour = 4, 100.0, 2.0
    board.trials = [
        Trial(["lr=0.1"], {}, "aaa", "s/a", "completed", "f1", 0.5, 0.4, [0.5], 40, 40, seconds=1800.0, kept=True),
        Trial(["lr=0.2"], {"phase": "search"}, "bbb", "s/b", "running", "f1", 0.7, None, [], 10, 40, seconds=50.0),
        Trial(["lr=0.3"], {}, "ccc", "s/c", "failed", error="OutOfMemoryError: 2 GiB"),
        Trial(["lr=0.4"], {}, "ddd", "s/d", "waiting"),
    ]
    return board


def test_a_line_says_how_it_stands(standing):
    assert line(standing.document()) == (
        "tiny: 1 running, 1 completed, 1 failed, 1 waiting of 4; best 0.5000 (lr=0.1); ETA 1:28; 0.51 device hours; "
        "cost 1.03"
    )


def test_nothing_is_left_when_it_is_over(standing):
    standing.status = "completed"
    assert "ETA" not in line(standing.document())


@pytest.fixture
def printed(standing, capsys):
    """What is printed of it, with at most so many rows."""

    def print_(rows=None):
        print_status(standing.document(), rows)
        return capsys.readouterr().out

    return print_


def test_the_table_has_what_runs_first_and_says_why_something_failed(printed):
    rows = printed().splitlines()
    assert [row.split()[0] for row in rows[1:5]] == ["bbb", "aaa", "ccc", "ddd"]
    assert all(word in rows[1] for word in ("running", "lr=0.2", "[search]", "10/40", "0.7000"))
    assert all(word in rows[2] for word in ("0.5000", "0.4000", "30:00", "kept"))
    assert "OutOfMemoryError: 2 GiB" in rows[3]


def test_it_is_a_result_wherever_other_lines_go(printed, monkeypatch):
    monkeypatch.setattr(console, "stderr", True)
    assert "bbb" in printed()


def test_a_long_table_is_cut_and_says_so(printed):
    assert "and 3 more; tiny:" in printed(rows=1)
    assert "ddd" not in printed(rows=1)


def test_what_a_protocol_has_found_is_shown_below(standing, printed):
    scores = {"f1": 0.85, "f1 SD": 0.01, "f1 from": 0.83, "f1 to": 0.87, "loss": 0.7, "loss SD": 0.1}
    lora = {"method": "lora", "choice": "lr=[1]", "validation": 0.9, "n": 3, **scores, "note": ""}
    standing.results = [lora, {**lora, **dict.fromkeys(scores), "method": "head", "n": 0, "note": "nothing found"}]
    head, first, second = printed().splitlines()[-3:]
    assert " ".join(head.split()) == "method choice validation n test f1, mean ± SD 95 % interval note"
    assert first.split() == ["lora", "lr=[1]", "0.9000", "3", "0.8500", "±", "0.0100", "0.8300", "to", "0.8700"]
    assert second.split() == ["head", "lr=[1]", "0.9000", "0", "-", "±", "-", "-", "to", "-", "nothing", "found"]


def test_off_a_terminal_a_line_comes_when_something_ends(standing):
    lines = []
    with drawing() as show, pytest.MonkeyPatch.context() as patch:
        patch.setattr("peftlab.sweep.display.log.info", lambda _, text: lines.append(text))
        show(standing)
        show(standing)
        standing.trials[3].state = "completed"
        show(standing)
    assert len(lines) == 2


def test_on_a_terminal_the_table_is_drawn_and_taken_away(standing, monkeypatch):
    monkeypatch.setattr(type(console), "is_terminal", True)
    with console.capture() as capture, drawing() as show:
        assert show.live is not None
        show(standing)
        console.print(show.live.renderable)
    assert "bbb" in capture.get()
