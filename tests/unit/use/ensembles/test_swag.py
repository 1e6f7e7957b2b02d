"""SWAG's moments against those of iterates that were kept, and the models that are drawn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from peftlab.callbacks.swag import MOMENTS, Swag
from peftlab.errors import UserError
from peftlab.use.ensembles.swag import Drawing, draws, read_moments


def iterates(number=30):
    """Weights on the last steps of a training: far from 0, and hardly moving."""
    random = np.random.default_rng(0)
    return 1 + 1e-4 * np.cumsum(random.normal(size=(number, 3)), axis=0)


def snapshots(callback, values):
    for row in values:
        callback.take({"w": torch.tensor(row, dtype=torch.float32), "count": torch.tensor(3)})


@pytest.fixture
def moments(tmp_path):
    """Write and read the moments that a callback has."""

    def kept(callback):
        callback.on_fit_end(SimpleNamespace(is_global_zero=True, default_root_dir=tmp_path), None)
        return read_moments(tmp_path)

    return kept


def test_the_moments_are_those_of_the_kept_iterates(moments):
    callback, values = Swag(rank=5), iterates().astype("f4")
    snapshots(callback, values)
    found = moments(callback)
    assert found.snapshots == 30
    np.testing.assert_allclose(found.mean["w"], values.mean(0, dtype="f8"), rtol=1e-7)
    variance = found.squares["w"] / found.snapshots
    np.testing.assert_allclose(variance, values.astype("f8").var(0), rtol=1e-3)
    raw = (values**2).mean(0) - values.mean(0) ** 2  # equation 2 as it stands, in fp32
    assert np.abs(raw / values.astype("f8").var(0) - 1).max() > 0.1
    means = np.cumsum(values, axis=0, dtype="f8") / np.arange(1, 31)[:, None]
    np.testing.assert_allclose(found.deviations["w"], (values - means)[-5:], atol=2e-7)
    assert set(found.mean) == {"w"}


@pytest.mark.slow
def test_drawn_models_have_the_covariance_of_equation_1(moments):
    callback = Swag(rank=4)
    snapshots(callback, 100 * iterates())
    found = moments(callback)
    columns = found.deviations["w"].double().numpy()
    expected = (np.diag(found.squares["w"] / 30) + columns.T @ columns / 3) / 2
    random = torch.Generator().manual_seed(0)
    drawn = np.stack([found.draw(random)["w"] for _ in range(10_000)])
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=0.06 * expected.max())
    np.testing.assert_allclose(drawn.mean(0), found.mean["w"], atol=4 * np.sqrt(expected.max() / 1e4))


def test_the_seed_decides_and_without_covariance_all_are_the_mean(moments):
    callback = Swag()
    snapshots(callback, iterates())
    found = moments(callback)
    one, again, other = (next(draws(found, Drawing(seed=seed)))["w"] for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    first, second = draws(found, Drawing(samples=2, scale=0))
    assert torch.equal(first["w"], found.mean["w"])
    assert torch.equal(second["w"], found.mean["w"])


def test_its_state_continues_where_it_was():
    whole, first, second, values = Swag(rank=5), Swag(rank=5), Swag(rank=5), iterates()
    snapshots(whole, values)
    snapshots(first, values[:20])
    second.load_state_dict(first.state_dict())
    snapshots(second, values[20:])
    assert second.count == whole.count
    for one, other in ((second.mean, whole.mean), (second.squares, whole.squares)):
        assert torch.equal(one["w"], other["w"])
    assert all(torch.equal(a["w"], b["w"]) for a, b in zip(second.deviations, whole.deviations, strict=True))


def test_snapshots_are_spread_over_the_last_part():
    for steps, options, expected in (
        (100, {"start": 0.75, "snapshots": 5, "rank": 2}, [80, 85, 90, 95, 100]),
        (10, {"start": 0.5, "snapshots": 40}, [6, 7, 8, 9, 10]),
        (3, {"start": 0.0, "snapshots": 3, "rank": 2}, [1, 2, 3]),
        (1000, {"start": 0.9, "snapshots": 50}, list(range(902, 1001, 2))),
        (11, {"start": 0.0, "snapshots": 4, "rank": 2}, [3, 6, 9, 11]),
    ):
        callback = Swag(**options)
        assert [step for step in range(1, steps + 1) if callback.is_due(step, steps)] == expected


def test_options_that_make_no_sense_and_files_that_are_damaged(tmp_path):
    for options in ({"start": 1}, {"rank": 1}, {"snapshots": 3, "rank": 4}):
        with pytest.raises(ValueError, match="should be at least"):
            Swag(**options)
    (tmp_path / MOMENTS).write_bytes(b"torn")
    with pytest.raises(UserError, match="is damaged"):
        read_moments(tmp_path)
