"""How numbers are written."""

from __future__ import annotations

import importlib
import math
import pkgutil

import peftlab.scores
from peftlab.report import numbers as n
from peftlab.scores.scorer import Scorer


def test_one_habit():
    assert n.score(0.84125, "entity_f1") == "84.12"
    assert n.score(-0.0051, "accuracy", signed=True) == "\u22120.51"
    assert n.score(0.5, "loss") == "0.5000"
    assert n.score(None, "loss") == n.score(float("nan"), "f1/PER") == n.UNKNOWN
    assert n.with_unit(0.5, "macro_f1") == "50.00 %"
    assert n.score(0.125, "hamming_loss") == "12.50"
    assert n.points(0.005, "entity_f1") == "0.50 points"
    assert n.interval(0.1, None, "entity_f1") == n.UNKNOWN
    assert n.called("entity_f1/PER") == "entity F1 of PER"
    assert [n.p_value(p) for p in (None, 0.0004, 0.0312, 0.9999)] == [n.UNKNOWN, "< .001", ".031", "> .999"]
    assert [n.share(v) for v in (0.0, 1e-6, 0.00026, 0.0287, 0.5, 1.0)] == [
        "0 %",
        "< 0.001 %",
        "0.026 %",
        "2.9 %",
        "50.0 %",
        "100 %",
    ]
    assert [n.duration(v) for v in (3.21, 41, 204, 7560)] == ["3.2 s", "41 s", "3.4 min", "2.1 h"]
    assert (n.flops(2.63e12), n.size(81_212), n.money(0.004)) == ("2.63 TFLOP", "81.2 kB", "0.004")
    assert [n.size(v) for v in (999.4, 999.7, 999.96e3, 1.5e12)] == ["999 B", "1 kB", "1 MB", "1,500 GB"]
    assert (n.flops(2.3e18), n.flops(0)) == ("2.30 EFLOP", "0 FLOP")
    assert [n.energy(v) for v in (None, 1800, 45_000, 9e6)] == [n.UNKNOWN, "0.5 Wh", "12.5 Wh", "2.5 kWh"]
    assert n.listed(list("abc")) == "a, b and c"
    assert n.listed(list("abcdefghi"), 3) == "a, b, c and 6 more"
    assert n.plural(1, "run") + n.plural(1200, "run") == "1 run1,200 runs"


def test_the_scores_of_every_scorer_have_their_limits():
    for module in pkgutil.iter_modules(peftlab.scores.__path__, "peftlab.scores."):
        importlib.import_module(module.name)
    kinds, names = [Scorer], set()
    for kind in kinds:
        kinds += kind.__subclasses__()
        names |= set(getattr(kind, "directions", ())) if kind.__module__.startswith("peftlab.") else set()
    assert {name for name in names if n.limits(name)[0] == -math.inf} == {"margin"}
    assert {name for name in names if n.limits(name)[1] == math.inf} == {
        *("margin", "perplexity", "rmse", "mae", "log_loss", "wer", "cer")
    }
    assert (n.limits("hit@10"), n.limits("bleu"), n.limits("wer/insertions")) == ((0, 1), (0, 100), (0, math.inf))
    assert (n.limits("cold_hit@10"), n.limits("auc"), n.limits("spearman")) == ((0, 1), (0, 1), (-1, 1))
    assert n.limits("loss") == (-math.inf, math.inf)
    assert (n.possible(-0.1, 1.2, "accuracy"), n.possible(-0.1, 1.2, "loss")) == ((0, 1), (-0.1, 1.2))
    assert (n.possible(None, None, "accuracy"), n.possible(0.2, 7.0, "perplexity")) == ((None, None), (1, 7))
