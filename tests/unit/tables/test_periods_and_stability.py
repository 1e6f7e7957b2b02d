"""Splits by date and at random; what has changed; what says too much."""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.errors import DataError
from peftlab.tables.periods import at_random, by_date, date_of
from peftlab.tables.stability import alone, binned, stability_index

RANDOM = np.random.default_rng(2)


def test_dates_are_read_as_iso_8601_and_in_no_other_order():
    assert [
        date_of(text, "f:2", "date").isoformat()[:10] for text in ("2024", "2024-05", "2024-05-17T08:00", 2024)
    ] == [
        "2024-01-01",
        "2024-05-01",
        "2024-05-17",
        "2024-01-01",
    ]
    for text in ("17.05.2024", "05/17/2024", "soon", "2024-13", None):
        with pytest.raises(DataError, match=r"f:2: 'date' is .* --split random"):
            date_of(text, "f:2", "date")


def test_later_rows_are_for_test_and_rows_of_one_date_stay_together():
    days = RANDOM.integers(1, 28, 500)
    dates = [date_of(f"2024-02-{day:02}", "", "") for day in days]
    split = by_date(dates, 0.2, 0.2)
    assert days[split == "train"].max() < days[split == "validation"].min()
    assert days[split == "validation"].max() < days[split == "test"].min()
    assert abs((split == "test").mean() - 0.2) < 0.05
    with pytest.raises(DataError, match="no row is left for train"):
        by_date(dates[:1] * 10, 0.2, 0.2)


def test_random_splits_keep_groups_and_do_not_depend_on_other_rows():
    units = [f"applicant {number // 2}" for number in range(400)]
    split = at_random(units, 0.2, 0.2, seed=0)
    assert (split[::2] == split[1::2]).all()
    assert (at_random(units[100:], 0.2, 0.2, seed=0) == split[100:]).all()
    assert (at_random(units, 0.2, 0.2, seed=1) != split).any()


def test_the_index_is_small_for_equal_samples_and_large_for_shifted_ones():
    train, same, shifted = RANDOM.normal(size=3000), RANDOM.normal(size=3000), RANDOM.normal(size=3000) + 1
    places, bins = binned(train.tolist(), [same.tolist(), [None, *shifted.tolist()]], numeric=True)
    assert np.bincount(places[0], minlength=bins)[:10].tolist() == pytest.approx([300] * 10, abs=1)
    assert stability_index(places[0], places[1], bins) < 0.02
    assert stability_index(places[0], places[2], bins) > 0.5
    p, q = (np.bincount(place, minlength=bins) + 0.5 for place in places[:2])
    p, q = p / p.sum(), q / q.sum()
    divergences = (p * np.log(p / q)).sum() + (q * np.log(q / p)).sum()
    assert stability_index(places[0], places[1], bins) == pytest.approx(divergences, abs=1e-12)


def test_a_column_that_tells_the_outcome_is_found_and_one_of_names_is_not():
    y = RANDOM.random(600) < 0.3
    told = np.where(y, "written off", "paid").tolist()
    names = [f"person {number}" for number in range(600)]
    for column, limits in ((told, (0.95, 1.0)), (names, (0.4, 0.6))):
        (train, later), bins = binned(column[:400], [column[400:]], numeric=False)
        value = alone(train, y[:400], later, y[400:], bins)
        assert value is not None
        assert limits[0] <= value <= limits[1]
    assert alone(train[:20], y[:20], later[:20], y[400:420], bins) is None
