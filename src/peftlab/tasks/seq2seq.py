"""Texts from texts by an encoder-decoder: translations, summaries, titles (Raffel et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from peftlab.errors import ConfigError, DataError
from peftlab.models.positions import positions
from peftlab.tasks.batch import LEARNT, Batch
from peftlab.tasks.general_text import MeasuresForgetting
from peftlab.tasks.inputs.editable import EditableText
from peftlab.tasks.inputs.source_target import SourceTarget
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.token_rows import cut, padded
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.heads import SEQ2SEQ_LM, Head
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import IGNORED, Encoded, Random, check_size, spec
from peftlab.tasks.writing_task import LanguageTask

_AT_ONCE = 1024
"""Texts that are tokenised at once: the library returns Python lists, larger than the arrays they become."""


@spec
class Seq2Seq(MeasuresForgetting, LanguageTask):
    """Predicts each token of the target from the source and the tokens before it (teacher forcing)."""

    prefix: str = ""
    """Stands before every source: T5 is told by it what to do, as in ``summarize: ``."""
    max_target_tokens: int = Field(default=128, ge=1)
    """Maximum number of tokens of a target, the end token included; a longer one loses its end, which is not learnt."""
    head: ClassVar[Head] = SEQ2SEQ_LM
    example: ClassVar[type] = SourceTarget
    encoded_by: ClassVar[frozenset[str]] = frozenset({"prefix", "max_target_tokens"})
    pointers: ClassVar[frozenset[str] | None] = frozenset({"examples", "target_starts"})
    host_work: ClassVar[str | None] = None
    general_characters: ClassVar[int] = 800  # a half, some 80 tokens, is to fit the source and the target

    @override
    def bind(self, processor: Processor) -> None:
        """Keep the tokenizer, and the token that targets follow.

        Raises:
            ConfigError: the model has none.
        """
        super().bind(processor)
        if processor.decoder_start is None:
            raise ConfigError(
                f"task={self.name}: the model has no decoder_start_token_id, so it is no encoder-decoder. Choose one, "
                "such as T5 or BART; a decoder is trained by task=causal_lm"
            )
        self._start = processor.decoder_start

    @override
    def check_model(self, model: Any) -> None:
        super().check_model(model)
        most = positions(model)
        if most is not None and self.max_target_tokens > most:
            raise ConfigError(
                f"task.max_target_tokens={self.max_target_tokens}: the decoder has {most} positions. Set it to at most "
                f"{most}"
            )

    def from_input(self, fields: Mapping[str, Any], id: str) -> SourceTarget:
        """Return the source in ``text``."""
        if not isinstance(text := fields.get("text"), str):
            raise DataError("expected `text`, a string")
        return SourceTarget(id, text)

    @override
    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return the numbers of truncated sources and targets and of their tokens, and of sources without a token."""
        of_targets = ("truncated targets", "truncated target tokens")
        return super().all_lost(encoded) | {name: encoded.counts[name.replace(" ", "_")] for name in of_targets}

    @override
    def lost(self, encoded: Encoded, index: int) -> dict[str, Any]:
        """Return ``truncated`` with ``lost_tokens`` and ``lost_target_tokens``, or ``empty``, where they apply."""
        of_target = int(encoded.arrays["target_truncated"][index])
        return super().lost(encoded, index) | (
            {"truncated": True, "lost_target_tokens": of_target} if of_target else {}
        )

    def encode(self, examples: Sequence[SourceTarget], processor: Processor, limits: Limits) -> Encoded:
        """Tokenise sources, after the prefix, and targets; longer ones lose their ends.

        Returns:
            arrays ``tokens`` and ``targets`` of shape (all tokens,): the ids; ``examples`` and ``target_starts`` of
            shape (examples + 1,): where each source and target starts in them; ``truncated``, ``target_truncated`` and
            ``empty`` of shape (examples,): the tokens that each loses, and whether a source has none. The counts are
            those of truncated texts (sources), targets and their tokens.
        """
        if limits.long == "split":
            raise ConfigError("data.long=split: a target is of the whole source; set data.long=truncate")
        for one in examples:
            check_size(len(one.source) + len(one.target or ""), one.place or one.id)
        tokenizer = processor.tokenizer
        sources = _Rows.of(tokenizer, "text", [self.prefix + one.source for one in examples], limits.max_tokens)
        targets = _Rows.of(tokenizer, "text_target", [one.target for one in examples], self.max_target_tokens)
        return Encoded(
            {
                "tokens": sources.tokens,
                "examples": sources.starts,
                "truncated": sources.truncated,
                "empty": sources.empty,
                "targets": targets.tokens,
                "target_starts": targets.starts,
                "target_truncated": targets.truncated,
            },
            np.diff(sources.starts),
            tokenizer.pad_token_id or 0,
            {
                "truncated_texts": int((sources.truncated > 0).sum()),
                "truncated_tokens": int(sources.truncated.sum()),
                "truncated_targets": int((targets.truncated > 0).sum()),
                "truncated_target_tokens": int(targets.truncated.sum()),
            },
        )

    def encoded_text(self, example: SourceTarget) -> list[str | None]:
        """Return source and target: both are encoded."""
        return [example.source, example.target]

    def collate(
        self, examples: Sequence[SourceTarget], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return sources of shape (texts, tokens), and of the targets ``labels`` and, one token later,
        ``decoder_input_ids``, both of shape (texts, target tokens)."""
        sources = [cut(encoded, "tokens", "examples", i) for i in indices]
        targets = [cut(encoded, "targets", "target_starts", i) for i in indices]
        before = [np.concatenate([[self._start], target])[: max(len(target), 1)] for target in targets]
        fills = {"input_ids": encoded.padding, "attention_mask": 0, "decoder_input_ids": encoded.padding}
        rows = {"input_ids": sources, "attention_mask": list(map(np.ones_like, sources)), "decoder_input_ids": before}
        weights = self.weights(examples, encoded, indices)
        return Batch(
            inputs={name: padded(rows[name], fill) for name, fill in fills.items()},
            targets={"labels": padded(targets, IGNORED)},
            weights=torch.from_numpy(weights),
            rows=torch.arange(len(indices)),
            examples=[examples[i] for i in indices],
            tokens=sum(map(len, sources)),
            host={LEARNT: int(weights.sum()), "prompts": [source.tolist() for source in sources]},
            padding=fills | {"labels": IGNORED},
        )

    def weights(self, examples: Sequence[SourceTarget], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return the number of tokens of each target."""
        return np.diff(encoded.arrays["target_starts"])[list(indices)].astype(float)

    @override
    def prompts(self, batch: Batch) -> list[list[int]]:
        prompts: list[list[int]] = batch.host["prompts"]
        return prompts

    @override
    def shown(self, example: SourceTarget) -> str:
        return example.source

    @override
    def editable(self, example: SourceTarget) -> list[EditableText]:
        """Return the source, whose words may all change; the target stays."""
        return [EditableText.of_text(example.source)]

    @override
    def edited(self, example: SourceTarget, texts: Sequence[EditableText]) -> SourceTarget:
        (source,) = texts
        return replace(example, source=source.text)

    def text_key(self, example: SourceTarget) -> str:
        """Return the source."""
        return example.source

    def gold(self, example: SourceTarget) -> str | None:
        """Return the target."""
        return example.target

    @property
    @override
    def general_task(self) -> Seq2Seq:
        """Return this task without its prefix, which asks for something else than to go on."""
        task = copy(self)
        vars(task)["prefix"] = ""
        return task

    @override
    def general(self, text: Text) -> SourceTarget:
        """Return the first half of a text as the source, and the rest as the target."""
        half = len(text.text) // 2
        if (space := text.text.find(" ", half)) > 0:
            half = space
        source, target = text.text[:half], text.text[half:].strip()
        return SourceTarget(text.id, source, target, text.file, text.line)


class _Rows:
    """Texts as rows of tokens, each with the special tokens of its side."""

    def __init__(self, rows: list[list[int]], truncated: list[int], empty: list[bool]) -> None:
        lengths = np.asarray([len(row) for row in rows], dtype=np.int64)
        self.tokens = np.asarray([token for row in rows for token in row], dtype=np.int32)
        self.starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.truncated, self.empty = np.asarray(truncated, dtype=np.int64), np.asarray(empty, dtype=np.int64)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, side: str, texts: Sequence[str | None], most: int) -> _Rows:
        """Tokenise `texts`; None is no token.

        Args:
            tokenizer: of the model.
            side: ``text`` for sources, which keep their special tokens when they are cut; ``text_target`` for targets,
                of which the end token stands for their end, and is lost with it.
            texts: the texts.
            most: the maximum number of tokens of a row.

        Raises:
            DataError: `most` has no room besides the special tokens of a source.
        """
        rows, truncated, empty = list[list[int]](), list[int](), list[bool]()
        for begin in range(0, len(texts), _AT_ONCE):
            some = texts[begin : begin + _AT_ONCE]
            encoding: Any = tokenizer(
                **{side: [text or "" for text in some]}, return_special_tokens_mask=True, verbose=False
            )
            for text, ids, special in zip(some, encoding["input_ids"], encoding["special_tokens_mask"], strict=True):
                after = 0 if side == "text_target" else len(special) - len(_stripped(special))
                if most <= sum(special) and side == "text":
                    raise DataError(f"data.max_tokens={most} leaves no room besides {sum(special)} special tokens")
                kept = ids if len(ids) <= most else [*ids[: most - after], *ids[len(ids) - after :]]
                rows.append([] if text is None else kept)
                truncated.append(0 if text is None else len(ids) - len(kept))
                empty.append(all(special))
        return cls(rows, truncated, empty)


def _stripped(special: list[int]) -> list[int]:
    """Return the mask of special tokens without those at the end."""
    end = len(special)
    while end and special[end - 1]:
        end -= 1
    return special[:end]
