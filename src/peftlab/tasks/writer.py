"""The part of a task whose model writes, in evaluations or for its users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peftlab.generation.options import Generation
from peftlab.generation.writing import check_room, plain_settings
from peftlab.tasks.processor import Processor


class Writer:
    """Checks and exports what a task's field `generate` says; it comes before the task among the bases."""

    generate: Generation

    @property
    def stops(self) -> Sequence[int]:
        """Return the ids of tokens that end an answer, besides those of the model's generation settings."""
        return ()

    def check_model(self, model: Any) -> None:
        """Check that the model has positions for what is written in evaluations."""
        if self.generate.at != "never":
            check_room(model, self.generate)

    def prepare_export(self, model: Any, processor: Processor) -> None:
        """Give the model the generation settings with which it writes the same by itself."""
        model.generation_config = plain_settings(model, self.generate, processor.tokenizer, self.stops)
