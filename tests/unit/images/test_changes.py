"""Changes of training pictures: each does what it says, and draws from its generator alone."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.images.test_recipe import drawn, processor_of

from peftlab.images.changes import Changes
from peftlab.images.recipe import recipe_of

RECIPE = recipe_of(processor_of("dinov2").to_dict())
PICTURE = RECIPE.resized(drawn(40, 60))


def changed(seed=0, picture=PICTURE, **options):
    return Changes(**options).applied(picture, RECIPE, np.random.default_rng(seed))


def test_none_is_the_centre():
    assert not Changes().any
    np.testing.assert_array_equal(changed(), RECIPE.centred(PICTURE))
    np.testing.assert_array_equal(changed(jitter=0.0, erase=0.0), RECIPE.centred(PICTURE))


@pytest.mark.parametrize("options", [{"crop": 0.3}, {"flip": "both"}, {"jitter": 0.4}, {"erase": 1.0}])
def test_the_generator_decides(options):
    assert Changes(**options).any
    drawings = [changed(seed, **options) for seed in range(8)]
    assert len({each.tobytes() for each in drawings}) > 2
    for seed, each in enumerate(drawings):
        np.testing.assert_array_equal(each, changed(seed, **options))
        assert (each.shape, each.dtype) == ((16, 16, 3), np.uint8)


def test_half_are_mirrored():
    centre = RECIPE.centred(PICTURE)
    mirrored = sum(np.array_equal(changed(seed, flip="horizontal"), centre[:, ::-1]) for seed in range(400))
    assert sum(np.array_equal(changed(seed, flip="horizontal"), centre) for seed in range(400)) == 400 - mirrored
    assert 160 < mirrored < 240
    four = {changed(seed, flip="both").tobytes() for seed in range(40)}
    assert four == {part.tobytes() for half in (centre, centre[:, ::-1]) for part in (half, half[::-1])}


def test_a_crop_keeps_its_share_and_shape():
    """Of a picture whose channels are the coordinates: the corners of the crop tell its size."""
    down, across = np.meshgrid(np.arange(200), np.arange(250), indexing="ij")
    picture = np.stack([down, across, down], axis=-1).astype(np.uint8)
    for seed in range(50):
        found = changed(seed, picture, crop=0.25).astype(float)
        high, wide = (float(found[..., n].max() - found[..., n].min()) * 16 / 15 for n in (0, 1))
        assert 0.2 < high * wide / (200 * 250) <= 1.05
        assert 0.7 < wide / high < 1.4


def test_colours_change_by_as_much_as_they_may():
    grey = np.full((16, 16, 3), 100, np.uint8)
    values = {int(changed(seed, grey, jitter=0.2)[0, 0, 0]) for seed in range(200)}
    assert 80 <= min(values) < 85
    assert 115 < max(values) <= 120


def test_what_is_erased_is_the_mean_of_the_normalisation():
    mean = np.rint(np.multiply(RECIPE.mean, 255))
    shares = []
    for seed in range(100):
        erased = (changed(seed, erase=1.0) == mean).all(-1)
        shares.append(erased.mean())
        rows, columns = np.flatnonzero(erased.any(1)), np.flatnonzero(erased.any(0))
        assert erased[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert 0.01 <= min(shares) < 0.06
    assert 0.25 < max(shares) <= 0.36
    half = np.mean([(changed(seed, erase=0.5) == mean).all(-1).any() for seed in range(200)])
    assert 0.4 < half < 0.6
