"""Classification of pictures: one label each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.images.changes import Changes
from peftlab.images.pictures import SUFFIXES, check_colour, decoded
from peftlab.images.positions import interpolate_positions, settle_positions
from peftlab.images.recipe import Recipe, check_recipe, recipe_of, settings_of
from peftlab.tasks.batch import Batch
from peftlab.tasks.classification import Classification
from peftlab.tasks.inputs.media_files import MediaFile, MediaTask, read_all
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.heads import IMAGE_CLASSIFICATION, Head
from peftlab.tasks.processor import Processor, ProcessorKind
from peftlab.tasks.task import Encoded, Random, spec


@dataclass(frozen=True, slots=True)
class Picture(MediaFile):
    """A picture by the name of its file."""


@spec
class ImageClassification(MediaTask, Classification):
    """One label per picture, trained by cross-entropy over the logits of a vision model (Dosovitskiy et al. 2021).

    Pictures are decoded once and kept resized, in 8 bits. Each batch crops, changes and normalises its own.
    """

    size: int | None = Field(default=None, ge=8, le=4096)
    """Height and width of the model's input in pixels; None: those of the pretrained model. A transformer's positions
    are interpolated; half the size is a quarter of the tokens."""
    fit: Literal["model", "whole"] = "model"
    """``model``: as the pretrained model's own recipe says, which may cut the edges off; ``whole``: all of the picture
    is resized to the input, whatever its aspect ratio."""
    background: str = "white"
    """The colour behind transparent pictures."""
    changes: Changes = field(default_factory=Changes)
    """How training pictures are changed."""
    head: ClassVar[Head] = IMAGE_CLASSIFICATION
    example: ClassVar[type] = Picture
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    processor: ClassVar[ProcessorKind] = "image_processor"
    encoded_by: ClassVar[frozenset[str]] = frozenset({"size", "fit", "background"})

    def __post_init__(self) -> None:
        """Check the background."""
        super().__post_init__()
        try:
            check_colour(self.background)
        except ImportError:  # said where a picture is read
            pass
        except ValueError as error:
            raise ConfigError(f"task.background='{self.background}': {error}. Name one of CSS, or #rrggbb") from None

    @property
    def draws_inputs(self) -> bool:  # type: ignore[override]
        """Whether training pictures are changed anew in every epoch."""
        return self.changes.any

    @override
    def shape(self, model: Any) -> None:
        """Have positions interpolated for pictures of another size."""
        interpolate_positions(model)

    @override
    def bind(self, processor: Processor) -> None:
        """Choose how pictures become inputs.

        Raises:
            ConfigError: the model's image processor prepares them otherwise.
        """
        check_recipe(processor.transform)
        self._recipe = self._recipe_of(processor)

    def _recipe_of(self, processor: Processor) -> Recipe:
        return recipe_of(processor.transform.to_dict(), self.size, whole=self.fit == "whole")

    @override
    def encode(self, examples: Sequence[Any], processor: Processor, limits: Limits) -> Encoded:
        """Return the resized pictures.

        Returns:
            arrays ``pixels``, shape (values,), uint8: the pictures one after another; ``examples``, shape
            (pictures + 1,): where each begins; ``widths``, shape (pictures,). A picture counts as one token. The counts
            are the `oddities` of `peftlab.images.pictures.Pixels`.
        """
        recipe, oddities = self._recipe_of(processor), Counter[str]()

        def resized(_: MediaFile, content: bytes) -> np.ndarray:
            picture = decoded(content, self.background)
            oddities.update(picture.oddities)
            return recipe.resized(picture.values)

        pictures = read_all(examples, resized)
        arrays = {
            "pixels": np.concatenate([each.reshape(-1) for each in pictures] or [np.zeros(0, np.uint8)]),
            "examples": np.cumsum([0, *(each.size for each in pictures)], dtype=np.int64),
            "widths": np.asarray([each.shape[1] for each in pictures], dtype=np.int64),
        }
        return Encoded(arrays, np.ones(len(pictures), dtype=np.int64), 0, dict(sorted(oddities.items())))

    @override
    def collate(
        self, examples: Sequence[Any], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return ``pixel_values`` of shape (pictures, 3, height, width), fp32; a picture counts as one token."""
        chosen, starts, recipe = [examples[i] for i in indices], encoded.arrays["examples"], self._recipe
        pictures = []
        for i in indices:
            flat = encoded.arrays["pixels"][starts[i] : starts[i + 1]]
            pixels = flat.reshape(-1, int(encoded.arrays["widths"][i]), 3)
            changed = random is not None and self.changes.any
            pictures.append(
                self.changes.applied(pixels, recipe, random(i)) if changed else recipe.centred(pixels)  # type: ignore[misc]
            )
        return Batch(
            inputs={"pixel_values": torch.from_numpy(recipe.normalised(np.stack(pictures)))},
            targets={"labels": self.targets(chosen)},
            weights=torch.from_numpy(self.weights(examples, encoded, indices)),
            rows=torch.arange(len(chosen)),
            examples=chosen,
            tokens=len(chosen),
        )

    @override
    def prepare_export(self, model: Any, processor: Processor) -> None:
        """Set the size of the input in both, and the positions of a transformer for it.

        Raises:
            ConfigError: transformers' processor of this model cannot prepare pictures as this task does.
        """
        transform = processor.transform
        for key, value in settings_of(self._recipe_of(processor), transform.to_dict()).items():
            setattr(transform, key, value)
        if self.size is not None:
            settle_positions(model, self.size)
