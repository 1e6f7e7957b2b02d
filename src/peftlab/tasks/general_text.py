"""Text that a language model is not trained on: how well it still predicts it shows what it has forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.task import spec

if TYPE_CHECKING:
    from peftlab.tasks.writing_task import LanguageTask


@spec
class MeasuresForgetting:
    """The part of a task whose model is measured on general text, see `peftlab.training.forgetting`."""

    forgetting: str | None = None
    """A file of general text, whose perplexity before and after the training is recorded; None: none."""
    general_characters: ClassVar[int] = 2000
    """Paragraphs are joined to texts of about so many characters, some 400 tokens of English."""

    @property
    def general_task(self) -> LanguageTask:
        """Return the task, bound, whose losses of `general` examples are measured: this one, unless it overrides it."""
        return self  # type: ignore[return-value]  # a task that writes, of which this is a base

    def general(self, text: Text) -> Any:
        """Return the example of the `general_task` in one text."""
        raise NotImplementedError


def general_file(task: object) -> Path | None:
    """Return the whole path of the file of general text that a run's task names; None: there is none."""
    place: str | None = getattr(task, "forgetting", None)
    return None if place is None else Path(place).expanduser().absolute()
