"""Self-training: guesses of the model itself, or of a finished run, are learnt as labels."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.answering import Answering, teacher_of
from peftlab.regularizers.regularizer import Computed, Material, spec
from peftlab.semi_supervised.companions import Read
from peftlab.semi_supervised.consistency import Consistency, Judged, certain
from peftlab.semi_supervised.predicted import sharpened


@spec
class SelfTraining(Consistency):
    """Learns pseudo-labels: of the model as it is in each step (Lee 2013), or of a teacher that stays as it is.

    With a teacher, which is a finished run, this is one round of classical self-training (Yarowsky 1995; Xie et al.
    2020, "noisy student", where texts are edited for the pupil): the next round takes this run as its teacher.
    """

    threshold: float = Field(default=0.95, ge=0, allow_inf_nan=False)
    """The least probability of a class that is learnt; 0: all are, as in Lee's paper."""
    teacher: str | None = None
    """The folder of a finished run with the same task and labels, or the start of its id; None: the model itself."""
    sha256: str | None = None
    """The digest of the teacher's identity and its adapter; None: whatever is there."""
    answering: Answering | None = field(default=None, init=False, repr=False)
    """The teacher, set by `prepare`."""

    @override
    def prepare(self, material: Material) -> None:
        if self.teacher is not None:
            self.answering = teacher_of(material.teacher, self.teacher, self.sha256)

    @override
    def resolved(self) -> dict[str, Any]:
        own = {"teacher": self.answering.place, "sha256": self.answering.sha256} if self.answering else {}
        return super().resolved() | own

    @override
    def guess(self, computed: Computed, read: Read) -> Any:
        return super().guess(computed, read) if self.answering is None else self.answering.outputs(read.batch)

    @override
    def judge(self, guesses: Tensor) -> Judged:
        return Judged(sharpened(guesses, 0), *certain(guesses, self.threshold))
