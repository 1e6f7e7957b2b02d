"""How a pretrained model wants its pictures: resized, cropped and normalised, as its preprocessor_config.json says."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.errors import ConfigError, DataError
from peftlab.images.pictures import MOST_PIXELS

_WARPED = 384
"""The edge from which ConvNeXt's pictures are warped to a square in place of being cropped."""

_ROUNDING = 0.05
"""The mean difference of two inputs made alike, at most, as a share of their standard deviation."""


@dataclass(kw_only=True, frozen=True, config=ConfigDict(arbitrary_types_allowed=True))
class Recipe:
    """Turns pixels into a model's input, equal to that of transformers' image processor on Pillow.

    Its steps are apart, so that pictures are kept resized, in 8 bits, and training may crop and change them before they
    are normalised.
    """

    edge: int | None
    """The length that the shorter edge is resized to, at the same aspect ratio; None: `height` and `width` are those of
    the resized picture."""
    height: int
    """Of the input; cropped out of the centre where `edge` is set."""
    width: int
    resample: int
    """Pillow's number of the interpolation."""
    scale: float
    """The factor on pixel values."""
    mean: tuple[float, float, float]
    """Is subtracted from scaled values, by channel."""
    std: tuple[float, float, float]
    """Divides them."""

    def resized(self, pixels: np.ndarray) -> np.ndarray:
        """Return `pixels`, shape (height, width, 3), at the size that the input is cropped from.

        Raises:
            DataError: the picture is so long and narrow that it would have more than `MOST_PIXELS` pixels.
        """
        height, width = pixels.shape[:2]
        if self.edge is None:
            size = self.height, self.width
        else:
            longer = int(self.edge * max(height, width) / min(height, width))
            size = (longer, self.edge) if width <= height else (self.edge, longer)
        if size[0] * size[1] > MOST_PIXELS:
            raise DataError(f"a picture of {width} x {height} pixels is too long and narrow to be resized; cut it")
        return resize(pixels, size, self.resample)

    def centred(self, pixels: np.ndarray) -> np.ndarray:
        """Return the centre of resized `pixels`, shape (`height`, `width`, 3), with black where they are smaller."""
        height, width = pixels.shape[:2]
        missing = [max(0, self.height - height), max(0, self.width - width)]
        if any(missing):
            before = [-(-each // 2) for each in missing]
            pixels = np.pad(pixels, [*((one, all_ - one) for one, all_ in zip(before, missing, strict=True)), (0, 0)])
            height, width = pixels.shape[:2]
        top, left = (height - self.height) // 2, (width - self.width) // 2
        return pixels[top : top + self.height, left : left + self.width]

    def normalised(self, pixels: np.ndarray) -> np.ndarray:
        """Return `pixels`, shape (..., height, width, 3), as the model's input, shape (..., 3, height, width), fp32."""
        channels = [table[pixels[..., n]] for n, table in enumerate(self._tables)]
        return np.stack(channels, axis=-3)

    @cached_property
    def _tables(self) -> np.ndarray:
        """The input for each of the 256 values of a pixel, shape (3, 256)."""
        values = (np.arange(256, dtype=np.float64) * self.scale).astype(np.float32)
        mean, std = (np.asarray(each, dtype=np.float32)[:, None] for each in (self.mean, self.std))
        return (values - mean) / std


def recipe_of(settings: Mapping[str, Any], size: int | None = None, whole: bool = False) -> Recipe:
    """Return the recipe in the settings of an image processor.

    Args:
        settings: the entries of preprocessor_config.json.
        size: height and width of the input, in place of the model's own; the share that is cropped off stays.
        whole: whether the whole picture is resized to the input, in place of being cropped.

    Raises:
        ConfigError: a setting is not one of these recipes.
    """
    if not settings.get("do_resize", True):
        raise ConfigError("the model's preprocessor_config.json does not resize pictures (do_resize), which is needed")
    edge, height, width = _sizes(settings, size)
    normalises = settings.get("do_normalize", True)
    return Recipe(
        edge=None if whole else edge,
        height=height,
        width=width,
        resample=int(settings.get("resample", 2)),
        scale=float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 1.0,
        mean=_three(settings["image_mean"]) if normalises else (0.0, 0.0, 0.0),
        std=_three(settings["image_std"]) if normalises else (1.0, 1.0, 1.0),
    )


def check_recipe(transform: Any) -> None:
    """Check that an image processor of transformers does to a picture what its recipe does.

    Raises:
        ConfigError: it does more, such as to turn channels round, or something else.
    """
    picture = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    recipe = recipe_of(transform.to_dict())
    ours = recipe.normalised(recipe.centred(recipe.resized(picture)))
    theirs = np.asarray(transform(images=picture, return_tensors="np")["pixel_values"])
    # on torchvision, which transformers takes where it is installed, pixels differ by rounding
    if theirs.shape != (1, *ours.shape) or np.abs(theirs[0] - ours).mean() > _ROUNDING * ours.std():
        raise ConfigError(
            f"the model's {type(transform).__name__} prepares pictures in a way that is not known here. Choose a model "
            "whose pictures are resized, cropped out of the centre and normalised, such as a ViT, DINOv2, ConvNeXt or "
            "SigLIP"
        )


def settings_of(recipe: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that an image processor with `settings` needs in place of its own to follow `recipe`.

    Raises:
        ConfigError: it is ConvNeXt's, which always crops small pictures, and the recipe does not.
    """
    if settings.get("crop_pct"):
        if recipe.edge is None and recipe.height < _WARPED:
            raise ConfigError(
                f"the image processor of this model crops pictures of less than {_WARPED} pixels, and this run has "
                "seen them whole (task.fit=whole): transformers could not use what would be exported"
            )
        return {"size": {"shortest_edge": recipe.height}}
    size = {"height": recipe.height, "width": recipe.width}
    if recipe.edge is None:
        return {"size": size, "do_center_crop": False}
    return {"size": {"shortest_edge": recipe.edge}, "crop_size": size}


def _sizes(settings: Mapping[str, Any], size: int | None) -> tuple[int | None, int, int]:
    """Return the shorter edge, if the aspect ratio is kept, and height and width of the input."""
    own = {key: value for key, value in dict(settings["size"]).items() if value is not None}
    edge = own.get("shortest_edge")
    if share := settings.get("crop_pct"):  # ConvNeXt
        length = size or int(edge or own["height"])
        return (int(length / share) if length < _WARPED else None), length, length
    if edge is None and not {"height", "width"} <= own.keys():
        raise ConfigError(
            f"the model's preprocessor_config.json has the size {own}; expected shortest_edge, or height and width"
        )
    if edge is None:
        return None, size or int(own["height"]), size or int(own["width"])
    if not settings.get("do_center_crop"):
        raise ConfigError(
            "the model's preprocessor_config.json keeps pictures of any aspect ratio (shortest_edge without "
            "do_center_crop), which no batch can hold"
        )
    crop = settings["crop_size"]
    height, width = int(crop["height"]), int(crop["width"])
    if size is None:
        return int(edge), height, width
    return round(edge * size / min(height, width)), size, size


def resize(pixels: np.ndarray, size: tuple[int, int], resample: int) -> np.ndarray:
    """Return a picture in another size.

    Args:
        pixels: shape (height, width, 3), uint8.
        size: height and width of the result.
        resample: Pillow's number of the interpolation.
    """
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling(resample)))


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = values if isinstance(values, list | tuple) else [values] * 3
    return float(first), float(second), float(third)
