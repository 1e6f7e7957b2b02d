"""Do the statistics of reports hold what they promise? Simulated comparisons of two methods on one test set.

    python experiments/report_statistics/simulate.py [COMPARISONS] [PROCESSES]

writes results.md beside it (2,000 comparisons a row: some minutes of CPU time). Two methods tag entities; a test set
has 100 documents with 1 to 40 sentences, 10 on average, and one entity a sentence. Whether an entity is recognised
depends on a latent normal variable: its difficulty (for both methods), the method's own difficulty with it, the seed's
luck with it, and the quality of the seed's run. The first two are correlated within a document (ICC 0 or .3). Of the
entities that are not recognised, half are taken for another; spurious ones come on top. The score is
entity F1, about .9.
"""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri

from peftlab.report.statistics.bootstrap import bootstrap, jackknife_interval, paired_bootstrap
from peftlab.report.statistics.comparison import equivalence
from peftlab.report.statistics.crossed import Components, components_of_difference, difference, expected
from peftlab.report.statistics.measured import Measured, pseudo_values
from peftlab.report.statistics.power import design, minimum_detectable_effect
from peftlab.report.statistics.significance import permutation, sign_flip, welch

DIFFICULTY, OWN, LUCK = 1.0, 0.5, 0.3
"""Variances of the latent variable: of an entity's difficulty, the method's own, and the seed's."""
RECOGNISED, SPURIOUS = 0.9, 0.05
DOCUMENTS, SENTENCES = 100, 10


@dataclass(frozen=True)
class Setting:
    seeds: int
    icc: float
    seed_sd: float
    """Standard deviation of F1 between seeds on an endless test set."""
    shared: float = 0.0
    """Correlation of the two methods' seeds."""
    documents: int = DOCUMENTS


def f1(totals: np.ndarray) -> np.ndarray:
    """Return F1 from sums of right, spurious and missed entities."""
    right, spurious, missed = np.asarray(totals, np.float64).T
    return 2 * right / np.maximum(2 * right + spurious + missed, 1)


def true_f1(recognised: float) -> float:
    """Return F1 on an endless test set."""
    missed = 1 - recognised
    return 2 * recognised / (2 * recognised + missed + missed / 2 + SPURIOUS)


def recognised_for(score: float) -> float:
    return float(brentq(lambda share: true_f1(share) - score, 0.5, 0.9999))


def answers(setting: Setting, shares: tuple[float, ...], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts of each sentence, shape (methods, seeds, sentences, 3), and where documents begin."""
    sizes = np.clip(random.negative_binomial(2, 2 / (SENTENCES + 1), setting.documents), 1, 40)
    begins, number = np.concatenate([[0], np.cumsum(sizes)[:-1]]), int(sizes.sum())
    document = np.repeat(np.arange(setting.documents), sizes)

    def correlated(variance: float, *shape: int) -> np.ndarray:
        """Return normal variables, of which a share ICC of the variance is common to a document."""
        common = random.standard_normal((*shape, setting.documents), np.float32)[..., document]
        own = random.standard_normal((*shape, number), np.float32)
        return np.sqrt(variance) * (np.sqrt(setting.icc) * common + np.sqrt(1 - setting.icc) * own)

    spread = np.sqrt(DIFFICULTY + OWN + LUCK)
    slope = (true_f1(RECOGNISED + 1e-4) - true_f1(RECOGNISED - 1e-4)) / 2e-4
    density = np.exp(-(ndtri(RECOGNISED) ** 2) / 2) / np.sqrt(2 * np.pi)
    seed_sd = setting.seed_sd / (slope * density) * spread  # of the latent variable
    common = random.standard_normal((1, setting.seeds)) * np.sqrt(setting.shared)
    quality = common + random.standard_normal((2, setting.seeds)) * np.sqrt(1 - setting.shared)
    whole = np.sqrt(spread**2 + seed_sd**2)
    threshold = np.array([ndtri(share) * whole for share in shares])
    latent = correlated(DIFFICULTY) + correlated(OWN, 2)[:, None]
    latent = latent + np.sqrt(LUCK) * random.standard_normal((2, setting.seeds, number), np.float32)
    latent = latent + seed_sd * quality[:, :, None] + threshold[:, None, None]
    right = latent > 0
    mistaken = ~right & (random.random(right.shape, np.float32) < 0.5)
    invented = random.random(right.shape, np.float32) < SPURIOUS
    return np.stack([right, mistaken.astype(np.int64) + invented, ~right], axis=-1).astype(np.int64), begins


def measured(counts: np.ndarray) -> list[Measured]:
    return [Measured.of_counts(str(i), dict(enumerate(one)), f1) for i, one in enumerate(counts)]


def true_components(setting: Setting, random: np.random.Generator, sets: int = 400) -> Components:
    """Return the mean of the estimated variance components of many test sets."""
    found = defaultdict(list)
    for _ in range(sets):
        counts, begins = answers(setting, (RECOGNISED, RECOGNISED), random)
        first, second = measured(np.add.reduceat(counts, begins, axis=2))
        one = components_of_difference(first.pseudo_values, second.pseudo_values, paired=False)
        for name in ("seed", "cluster", "rest"):
            found[name].append(getattr(one, name))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    # negative estimates were set to 0: the seeds' variance is known better than that
    means["seed"] = 2 * setting.seed_sd**2
    return Components(**means, seeds=setting.seeds, clusters=setting.documents)


def nulls(setting: Setting, number: int, random: np.random.Generator) -> dict[str, float]:
    """Return how often each procedure claims a difference where there is none, and how often intervals cover."""
    claims: dict[str, list[bool]] = defaultdict(list)
    truth = true_f1(RECOGNISED)
    for index in range(number):
        counts, begins = answers(setting, (RECOGNISED, RECOGNISED), random)
        clusters = np.add.reduceat(counts, begins, axis=2)
        first, second = measured(clusters)
        for name, paired in (("unpaired", False), ("paired", True)):
            about = difference(first, second, paired)
            claims[name].append(about.p() <= 0.05)
            claims[f"covers {name}"].append(about.low <= 0 <= about.high)
        about = expected(first)
        claims["covers one method"].append(about.low <= truth <= about.high)
        one, other = first.scores.tolist(), second.scores.tolist()
        claims["Welch over seeds"].append(welch(one, other).p <= 0.05)
        if index < number // 8:
            claims["sign flip"].append(sign_flip(np.subtract(one, other)).p <= 0.05)
            claims["permutation"].append(permutation(one, other).p <= 0.05)
            pooled, by_cluster = counts.sum(axis=1), clusters.sum(axis=1)
            for name, units in (
                ("bootstrap, sentences, one seed", counts[:, 0]),
                ("bootstrap, sentences, all seeds", pooled),
                ("bootstrap, documents, one seed", clusters[:, 0]),
                ("bootstrap, documents, all seeds", by_cluster),
            ):
                interval = paired_bootstrap(units[0], units[1], f1, resamples=300, seed=index)
                claims[name].append(not interval.low <= 0 <= interval.high)
    return {name: float(np.mean(values)) for name, values in claims.items()}


def powers(setting: Setting, number: int, random: np.random.Generator) -> dict[str, float]:
    """Return the stated minimum effect of the default procedure, how often it is found, and how often called a tie."""
    own = true_components(setting, random)
    effect = minimum_detectable_effect(*design(own, setting.seeds, setting.documents, paired=False))
    shares = tuple(recognised_for(true_f1(RECOGNISED) + half) for half in (effect / 2, -effect / 2))
    claims: dict[str, list[float]] = defaultdict(list)
    for _ in range(number):
        counts, begins = answers(setting, shares, random)
        first, second = measured(np.add.reduceat(counts, begins, axis=2))
        about = difference(first, second, paired=False)
        claims["power"].append(about.p() <= 0.05 and about.value > 0)
        claims["wrong"].append(about.p() <= 0.05 and about.value < 0)
        claims["covers"].append(about.low <= effect <= about.high)
        claims["tie"].append(equivalence(about, effect) <= 0.025)
        claims["stated"].append(minimum_detectable_effect(about.se, about.df))
        other = difference(first, second, paired=True)
        claims["power of pairs"].append(other.p() <= 0.05 and other.value > 0)
    result = {name: float(np.mean(values)) for name, values in claims.items() if name != "stated"}
    return result | {"effect": effect, "stated": float(np.median(claims["stated"]))}


def of_one_run(setting: Setting, share: float, number: int, random: np.random.Generator) -> list[str]:
    """Return how often intervals of one run's score cover its value on an endless test set."""
    truth, covers = true_f1(share), defaultdict(list)
    for index in range(number):
        counts, begins = answers(setting, (share, share), random)
        sentences, clusters = counts[0, 0], np.add.reduceat(counts, begins, axis=2)[0, 0]
        values = pseudo_values(clusters, f1)
        intervals = {
            "jackknife": jackknife_interval(values),
            "Wilson": jackknife_interval(values, bounded=True),
            "jackknife, sentences": jackknife_interval(pseudo_values(sentences, f1)),
        }
        if index < number // 2:
            intervals["bootstrap"] = bootstrap(clusters, f1, resamples=300, seed=index)
        for name, interval in intervals.items():
            covers[name].append(interval.low <= truth <= interval.high)
    names = ("jackknife, sentences", "bootstrap", "jackknife", "Wilson")
    about = [str(setting.documents), f"{truth:.3f}", f"{setting.icc:g}"]
    return [*about, *(percent(np.mean(covers[name])) for name in names)]


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def table(titles: list[str], rows: Sequence[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [titles, ["---"] * len(titles), *rows])


PROCEDURES = [
    "bootstrap, sentences, one seed",
    "bootstrap, sentences, all seeds",
    "bootstrap, documents, one seed",
    "bootstrap, documents, all seeds",
    "Welch over seeds",
    "permutation",
    "sign flip",
    "paired",
    "unpaired",
]


def used_row(setting: Setting, number: int, random: np.random.Generator) -> tuple[list[str], list[str]]:
    """Return a row of the table of what reports use, and one of the table of procedures."""
    null, power = nulls(setting, number, random), powers(setting, number, random)
    about = [str(setting.seeds), f"{setting.icc:g}", f"{100 * setting.seed_sd:g}"]
    used = [
        percent(null["unpaired"]),
        f"{100 * power['effect']:.2f}",
        percent(power["power"]),
        f"{100 * power['stated']:.2f}",
        percent(null["covers unpaired"]),
        percent(power["covers"]),
        percent(null["covers one method"]),
        percent(power["tie"]),
    ]
    return [*about, *used], [*about, *(percent(null[name]) for name in PROCEDURES)]


def pairing_row(setting: Setting, number: int, random: np.random.Generator) -> list[str]:
    null, power = nulls(setting, number, random), powers(setting, number, random)
    shown = (null["paired"], power["power of pairs"], null["unpaired"], power["power"])
    return [str(setting.seeds), f"{setting.shared:g}", *map(percent, shown)]


def main(number: int, workers: int) -> None:
    used = [Setting(*one) for one in itertools.product((3, 5, 10), (0.0, 0.3), (0.002, 0.01))]
    paired = [Setting(seeds, 0.3, 0.02, shared) for seeds, shared in itertools.product((3, 5, 10), (0.0, 0.5))]
    single = list(itertools.product((20, 100), (0.9, 0.98), (0.0, 0.3)))
    with ProcessPoolExecutor(workers) as pool:
        # each row has draws of its own, so that the number of workers changes nothing
        rows = [pool.submit(used_row, one, number, np.random.default_rng([1, i])) for i, one in enumerate(used)]
        fewer = [
            pool.submit(pairing_row, one, max(8, number // 4), np.random.default_rng([2, i]))
            for i, one in enumerate(paired)
        ]
        runs = [
            pool.submit(
                of_one_run,
                Setting(1, icc, 0.0, documents=documents),
                share,
                max(8, number // 2),
                np.random.default_rng([3, i]),
            )
            for i, (documents, share, icc) in enumerate(single)
        ]
        uses, levels = zip(*(row.result() for row in rows), strict=True)
        pairing, one_run = [row.result() for row in fewer], [row.result() for row in runs]
    about = ["seeds", "ICC", "seed SD"]
    columns = {
        "used": [*about, "false claims", "minimum effect", "found", "stated", "covers 0", "covers effect"],
        "pairing": ["seeds", "correlation", "false, paired", "found, paired", "false, unpaired", "found, unpaired"],
        "one run": ["documents", "F1", "ICC", "jackknife, sentences", "percentile bootstrap", "jackknife", "Wilson"],
    }
    noise = [f"{100 * 1.96 * np.sqrt(rate * (1 - rate) / number):.1f}" for rate in (0.05, 0.8)]
    few = 100 * 1.96 * np.sqrt(0.05 * 0.95 / (number // 8))
    text = f"""# Results of {number:,} simulated comparisons a row

Made by `simulate.py {number}`. Rates are in per cent, SDs and effects in points of F1. With {number:,} comparisons, a
rate of 5 % is measured to ±{noise[0]}, one of 80 % to ±{noise[1]}.

## What reports use

False claims where the methods are equal; the minimum effect, from the true variances, and how often it is found; the
median of the minimum effects that the comparisons state from their own data; coverage of the difference's 95 % interval
(equal methods; methods that differ by the effect) and of the interval of one method's score; how often a difference as
large as the margin is called a tie (nominally 2.5).

{table([*columns["used"], "covers score", "false ties"], uses)}

## False claims by procedure

5 are allowed. Bootstraps and permutations take {number // 8:,} comparisons, which measures 5 to ±{few:.1f}; "paired"
and "unpaired" are what reports have.

{table([*about, *PROCEDURES], levels)}

## When it pays to pair seeds

Seeds that have something in common in both methods (correlation); ICC .3, seed SD 2 points, {number // 4:,}
comparisons.

{table(columns["pairing"], pairing)}

## Intervals of one run

Coverage of 95 % intervals of {number // 2:,} runs, by documents unless it says sentences.

{table(columns["one run"], one_run)}
"""
    Path(__file__).with_name("results.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    main(*(numbers + [2000, 2][len(numbers) :]))
