from __future__ import annotations

import numpy as np
import pytest
from tests.sound_models import RATE, tone

from peftlab.audio.changes import Changes
from peftlab.errors import ConfigError

CLIP = tone(300, 1.0)


def changed(seed: int = 0, **options) -> np.ndarray:
    return Changes(**options).changed(CLIP, RATE, np.random.default_rng(seed))


def test_nothing_is_changed_by_default():
    assert not Changes().any
    assert np.array_equal(changed(), CLIP)


def test_a_shift_moves_the_sound_and_fills_with_silence():
    for seed in range(6):
        moved = changed(seed, time_shift=0.1)
        assert len(moved) == len(CLIP)
        silent = np.flatnonzero(moved != 0)
        by = silent[0] if moved[0] == 0 else silent[-1] + 1 - len(CLIP)
        assert abs(by) <= 0.1 * RATE
        assert np.array_equal(moved[max(by, 0) :][: len(CLIP) - abs(by)], CLIP[max(-by, 0) :][: len(CLIP) - abs(by)])


def test_noise_has_the_ratio_that_was_drawn():
    noise = changed(noise_db=(10, 10)) - CLIP
    assert 10 * np.log10(np.mean(CLIP**2) / np.mean(noise**2)) == pytest.approx(10, abs=0.1)


def test_speed_changes_length_and_pitch():
    fast = changed(speed=(1.25, 1.25))
    assert len(fast) == pytest.approx(len(CLIP) / 1.25, abs=1)
    assert np.abs(np.fft.rfft(fast)).argmax() * RATE / len(fast) == pytest.approx(375, abs=2)


def test_masks_are_of_the_mean_and_leave_something():
    changes = Changes(frame_masks=(2, 30), band_masks=(2, 8))
    assert changes.any
    for seed in range(20):
        features = np.random.default_rng(seed).standard_normal((16, 100))
        before, mean = features.copy(), features[:, :60].mean()
        changes.mask(features, 60, np.random.default_rng(seed))
        bands = (features == mean).all(1)
        frames = (features == mean).all(0)
        assert bands.sum() <= 16
        assert frames.sum() <= 60
        assert not frames[60:].any() or bands.all()
        untouched = np.ix_(~bands, ~frames)
        assert np.array_equal(features[untouched], before[untouched])


def test_the_same_generator_gives_the_same_change():
    options = {"speed": (0.9, 1.1), "time_shift": 0.1, "noise_db": (5, 30)}
    assert np.array_equal(changed(3, **options), changed(3, **options))
    assert not np.array_equal(changed(3, **options), changed(4, **options))


def test_ranges_that_are_none_are_refused():
    for options in ({"speed": (1.1, 0.9)}, {"speed": (0.1, 1.0)}, {"noise_db": (30, 5)}):
        with pytest.raises(ConfigError, match=r"task\.changes\."):
            Changes(**options)
