"""Speech recognition: what is said in a recording, written by an encoder-decoder (Whisper, Radford et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.generation.writing import Heard
from peftlab.models.positions import positions
from peftlab.scores.transcripts import UNSPACED, Normaliser, Transcripts
from peftlab.tasks.batch import LEARNT, Batch
from peftlab.tasks.inputs.recordings import Recording, RecordingTask
from peftlab.tasks.inputs.token_rows import cut, padded
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.heads import SPEECH_SEQ2SEQ, Head
from peftlab.tasks.processor import Processor, ProcessorKind
from peftlab.tasks.task import IGNORED, Encoded, Random, spec
from peftlab.tasks.writing_task import WritingTask

_POSITIONS = 448
"""Those of Whisper's decoder."""


@dataclass(frozen=True, slots=True)
class Transcribed(Recording):
    """A recording whose label is what is said in it."""


@spec
class SpeechRecognition(RecordingTask, WritingTask):
    """Predicts each token of what is said from the recording and the tokens before it.

    The decoder begins with tokens that name the language and the task, and say that no times are written; they are
    neither learnt nor scored. Batches are sorted by what is said: recordings all have one length.
    """

    max_seconds: float = Field(default=30.0, gt=0.1, le=30)
    """See `RecordingTask`."""
    language: str | None = "en"
    """The language that is spoken, by its name or code; None: a model of one language, which takes no token for it."""
    normaliser: Normaliser = "basic"
    """What is done to both sides before errors are counted; the scorer's name says it."""
    max_target_tokens: int = Field(default=_POSITIONS, ge=8)
    """Maximum number of tokens of the decoder, the first ones included; what is said after them is not learnt."""
    head: ClassVar[Head] = SPEECH_SEQ2SEQ
    example: ClassVar[type] = Transcribed
    processor: ClassVar[ProcessorKind] = "speech_processor"
    encoded_by: ClassVar[frozenset[str]] = frozenset({"max_seconds", "pad", "language", "max_target_tokens"})
    pointers: ClassVar[frozenset[str] | None] = frozenset({"examples", "target_starts"})
    exported: ClassVar[str] = (
        "It hears {task.max_seconds:g} seconds of {task.language}, at the rate of its feature extractor: "
        "`model.generate(extractor(samples, sampling_rate=rate, return_tensors='pt').input_features)`."
    )

    @property
    def code(self) -> str | None:
        """The code of the language."""
        if self.language is None:
            return None
        from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

        code: str = TO_LANGUAGE_CODE.get(self.language.lower(), self.language.lower())
        return code

    @property
    def scorer_of_texts(self) -> Transcripts:
        """Return the scorer of error rates: of characters in languages without spaces between words."""
        return Transcripts(self.normaliser, "characters" if self.code in UNSPACED else "words")

    @override
    def bind(self, processor: Processor) -> None:
        """Keep the tokenizer and the tokens that every text begins with.

        Raises:
            ConfigError: the model has none of Whisper's, or not for the language.
        """
        RecordingTask.bind(self, processor)
        WritingTask.bind(self, processor)
        self._first = self._first_of(processor)

    def _first_of(self, processor: Processor) -> list[int]:
        of_language = [] if self.code is None else [f"<|{self.code}|>", "<|transcribe|>"]
        names = ["<|startoftranscript|>", *of_language, "<|notimestamps|>"]
        tokenizer: Any = processor.tokenizer
        ids: list[int] = tokenizer.convert_tokens_to_ids(names)
        for name, token in zip(names, ids, strict=True):
            if token in (None, tokenizer.unk_token_id):
                raise ConfigError(
                    f"task.language={self.language}: the model's tokenizer has no {name}. Name a language that it "
                    "knows, by its name or code; null for a model of English alone; or choose a Whisper"
                )
        return ids

    @override
    def check_model(self, model: Any) -> None:
        """Check that the decoder has positions for what is learnt and written.

        Raises:
            ConfigError: it has not.
        """
        super().check_model(model)
        most = positions(model)
        for key, needed in (
            ("max_target_tokens", self.max_target_tokens),
            ("generate.max_new_tokens", len(self._first) + self.generate.max_new_tokens),
        ):
            if most is not None and needed > most:
                raise ConfigError(
                    f"task.{key}={needed - (0 if key == 'max_target_tokens' else len(self._first))}: the decoder has "
                    f"{most} positions, {len(self._first)} of them for its first tokens. Set it lower"
                )

    @override
    def encode(self, examples: Sequence[Any], processor: Processor, limits: Limits) -> Encoded:
        """Return samples, see `RecordingTask.encoded_sound`, and the tokens of what is said.

        Returns:
            further arrays ``targets`` of shape (all tokens,): the ids, with the token that ends them; ``target_starts``
            of shape (examples + 1,): where those of each begin; ``target_truncated`` of shape (examples,): the tokens
            that each loses. Lengths are in tokens of the decoder.
        """
        sound, tokenizer = self.encoded_sound(examples, processor), processor.tokenizer
        before = len(self._first_of(processor))
        rows, lost = list[list[int]](), list[int]()
        for example in examples:
            said = [] if example.label is None else tokenizer(example.label, add_special_tokens=False)["input_ids"]
            whole = [] if example.label is None else [*said, tokenizer.eos_token_id]
            rows.append(whole[: self.max_target_tokens - before + 1])
            lost.append(len(whole) - len(rows[-1]))
        sizes = [len(row) for row in rows]
        arrays = {
            **sound.arrays,
            "targets": np.asarray([token for row in rows for token in row], dtype=np.int32),
            "target_starts": np.cumsum([0, *sizes], dtype=np.int64),
            "target_truncated": np.asarray(lost, dtype=np.int64),
        }
        counts = {
            **sound.counts,
            "truncated targets": int(np.count_nonzero(lost)),
            "truncated target tokens": sum(lost),
        }
        lengths = before + np.maximum(np.asarray(sizes, dtype=np.int64) - 1, 0)
        return Encoded(arrays, lengths, tokenizer.pad_token_id or 0, counts)

    @override
    def encoded_text(self, example: Any) -> Any:
        """Return what is encoded of the recording, and what is said."""
        return [*super().encoded_text(example), example.label]

    @override
    def collate(
        self, examples: Sequence[Any], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return what the model hears, and of what is said ``labels`` and, one token later, ``decoder_input_ids``, both
        of shape (recordings, tokens): the first tokens, whose labels are ignored, and the targets."""
        targets = [cut(encoded, "targets", "target_starts", i) for i in indices]
        first = np.asarray(self._first, dtype=np.int64)
        unlearnt = np.full(len(first) - 1, IGNORED, dtype=np.int64)
        before = [np.concatenate([first, target[:-1]]) for target in targets]
        labels = [np.concatenate([unlearnt, target if len(target) else [IGNORED]]) for target in targets]
        weights = self.weights(examples, encoded, indices)
        return Batch(
            inputs=self.heard(encoded, indices, random) | {"decoder_input_ids": padded(before, encoded.padding)},
            targets={"labels": padded(labels, IGNORED)},
            weights=torch.from_numpy(weights),
            rows=torch.arange(len(indices)),
            examples=[examples[i] for i in indices],
            tokens=sum(map(len, before)),
            host={LEARNT: int(weights.sum())},
            padding={"decoder_input_ids": encoded.padding, "labels": IGNORED},
        )

    def weights(self, examples: Sequence[Any], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return the number of tokens of what is said in each recording."""
        return np.diff(encoded.arrays["target_starts"])[list(indices)].astype(float)

    @override
    def prompts(self, batch: Batch) -> list[list[int]]:
        return [self._first] * len(batch.examples)

    @override
    def asked(self, batch: Batch) -> Heard:
        """Return the recordings, and the tokens that every text begins with."""
        inputs = {name: value for name, value in batch.inputs.items() if name != "decoder_input_ids"}
        return Heard(inputs, self._first)

    @override
    def shown(self, example: Transcribed) -> str:
        return self.title(example)

    def gold(self, example: Transcribed) -> str | None:
        """Return what is said."""
        return example.label

    @override
    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return what is lost of recordings, and the numbers of truncated targets and of their tokens."""
        of_targets = ("truncated targets", "truncated target tokens")
        return super().all_lost(encoded) | {name: encoded.counts[name] for name in of_targets}

    @override
    def prepare_export(self, model: Any, processor: Processor) -> None:
        """Have the model write the same language by itself, with its own settings for the rest."""
        own = model.generation_config
        super().prepare_export(model, processor)
        chosen = ("num_beams", "max_new_tokens", "repetition_penalty")
        own.update(**{name: getattr(self.generate, name) for name in chosen}, max_length=None)
        own.return_timestamps, own.forced_decoder_ids = False, None
        if self.code is not None:
            own.language, own.task = self.code, "transcribe"
        model.generation_config = own
