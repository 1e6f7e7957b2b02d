"""Classification of recordings: one label each, such as a spoken command, a language, a bird."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from typing_extensions import override

from peftlab.tasks.batch import Batch
from peftlab.tasks.classification import Classification
from peftlab.tasks.inputs.recordings import Recording, RecordingTask
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.heads import AUDIO_CLASSIFICATION, Head
from peftlab.tasks.processor import Processor, ProcessorKind
from peftlab.tasks.task import Encoded, Random, spec


@spec
class AudioClassification(RecordingTask, Classification):
    """One label per recording, trained by cross-entropy over the logits of a model for sounds.

    Heads are those of transformers: the mean over time of projected states, or the class token of a spectrogram
    transformer.
    """

    head: ClassVar[Head] = AUDIO_CLASSIFICATION
    example: ClassVar[type] = Recording
    processor: ClassVar[ProcessorKind] = "feature_extractor"

    @override
    def encode(self, examples: Sequence[Any], processor: Processor, limits: Limits) -> Encoded:
        """Return the samples of recordings, see `RecordingTask.encoded_sound`."""
        return self.encoded_sound(examples, processor)

    @override
    def collate(
        self, examples: Sequence[Any], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return what the model takes, and the `targets` as ``labels``; a hundredth of a second counts as a token."""
        chosen = [examples[i] for i in indices]
        return Batch(
            inputs=self.heard(encoded, indices, random),
            targets={"labels": self.targets(chosen)},
            weights=torch.from_numpy(self.weights(examples, encoded, indices)),
            rows=torch.arange(len(chosen)),
            examples=chosen,
            tokens=int(encoded.lengths[list(indices)].sum()),
        )
