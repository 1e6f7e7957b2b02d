"""What a pretrained model wants to see: equal to transformers' own image processors, bit for bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import transformers
from PIL import Image
from tests.vision_models import FAMILIES, PROCESSORS

from peftlab.errors import ConfigError, DataError
from peftlab.images.recipe import check_recipe, recipe_of, resize, settings_of

SIZES = ((20, 24), (33, 17), (16, 16), (9, 40), (150, 101), (15, 15))


def processor_of(family):
    name, settings = PROCESSORS[family]
    return getattr(transformers, name)(**settings)


def drawn(height, width):
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def theirs(processor, pixels):
    return processor(images=Image.fromarray(pixels), return_tensors="np")["pixel_values"][0]


def ours(recipe, pixels):
    return recipe.normalised(recipe.centred(recipe.resized(pixels)))


@pytest.mark.parametrize("family", FAMILIES)
def test_it_equals_the_processor(family):
    processor = processor_of(family)
    recipe = recipe_of(processor.to_dict())
    for size in SIZES:
        np.testing.assert_array_equal(ours(recipe, drawn(*size)), theirs(processor, drawn(*size)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("size", "whole"), [(32, False), (24, True), (None, True)])
def test_the_processor_of_an_export_does_what_the_run_did(family, size, whole):
    processor = processor_of(family)
    recipe = recipe_of(processor.to_dict(), size, whole)
    if family == "convnext" and whole:
        with pytest.raises(ConfigError, match="crops pictures of less than 384"):
            settings_of(recipe, processor.to_dict())
        return
    for key, value in settings_of(recipe, processor.to_dict()).items():
        setattr(processor, key, value)
    exported = type(processor)(**json.loads(processor.to_json_string()))
    assert recipe.height == (size or 16)
    for each in SIZES:
        np.testing.assert_array_equal(ours(recipe, drawn(*each)), theirs(exported, drawn(*each)))


def test_the_share_that_is_cropped_off_stays():
    dinov2 = {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}}
    dinov2 |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    recipe = recipe_of(dinov2, 112)
    assert (recipe.edge, recipe.height, recipe.width) == (128, 112, 112)


def test_it_is_what_torchvision_computes():
    """Numbers of torchvision 0.28.0, ``transforms.v2.functional``, on PIL images: ``resize``, ``resized_crop``, and
    ``resize``, ``center_crop``, ``to_dtype(scale=True)`` and ``normalize`` one after another.
    """
    assert resize(drawn(7, 9), (4, 5), 2)[0, :, 0].tolist() == [116, 122, 121, 128, 107]
    assert resize(drawn(7, 9), (4, 5), 3)[0, :, 0].tolist() == [114, 122, 123, 130, 105]
    part = drawn(20, 24)[3:14, 2:15]
    assert resize(part, (8, 8), 3)[0, :, 1].tolist() == [147, 78, 98, 119, 167, 229, 120, 199]
    values = ours(recipe_of(processor_of("dinov2").to_dict()), drawn(33, 17))
    np.testing.assert_allclose(
        values[:, 0, 0], [1.7351659536361694, -0.1799718290567398, 0.06047951057553291], atol=1e-6
    )
    np.testing.assert_allclose(
        values[:, 15, 7], [-0.06293339282274246, 1.8333336114883423, -1.1072766780853271], atol=1e-6
    )
    assert values.sum(dtype=float) == pytest.approx(166.02985796984285, abs=1e-3)


def test_what_it_cannot_follow_is_refused():
    own = {"image_mean": 0.5, "image_std": 0.5}
    for settings, reason in (
        ({"do_resize": False, "size": {}}, "does not resize"),
        ({"size": {"longest_edge": 9}}, "expected shortest_edge"),
        ({"size": {"shortest_edge": 9}}, "which no batch can hold"),
    ):
        with pytest.raises(ConfigError, match=reason):
            recipe_of(own | settings)
    recipe = recipe_of(processor_of("dinov2").to_dict())
    with pytest.raises(DataError, match="too long and narrow"):
        recipe.resized(np.zeros((1, 300_000, 3), np.uint8))


def test_another_way_to_prepare_pictures_is_refused():
    """DeiT's crops what was resized to a square, MobileViT's turns the channels round, and so on."""
    for family in FAMILIES:
        check_recipe(processor_of(family))
    for name in ("DeiT", "MobileViT", "EfficientNet", "Levit", "Perceiver"):
        with pytest.raises(ConfigError, match=f"{name}ImageProcessor.* in a way that is not known here"):
            check_recipe(getattr(transformers, f"{name}ImageProcessor")())
