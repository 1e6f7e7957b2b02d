"""Relation extraction: the relation between two entities that are marked in a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from typing_extensions import override

from peftlab.errors import ConfigError, DataError
from peftlab.scores.relations import RelationScores
from peftlab.tasks.batch import ENTITY_SPANS, Batch
from peftlab.tasks.classification import Classification
from peftlab.tasks.inputs.editable import EditableText
from peftlab.tasks.inputs.marked_texts import MarkedText, Slice, encode_marked, marker_ids
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Encoded, Random, spec

_EXPECTED = (
    "expected `text`, a string with <e1>...</e1> and <e2>...</e2> around two entities, or a plain one with `head` and "
    "`tail`, start and end of each in characters"
)


@spec
class RelationClassification(Classification):
    """The label of a relation, with markers around both entities (Zhang & Wang 2015; Wu & He 2019).

    What the head reads is chosen by ``model.pooling``: with ``entity_start`` the markers before the entities (Baldini
    Soares et al. 2019, section 3.2), else the text as a whole.
    """

    markers: Literal["auto"] | Annotated[list[str], Field(min_length=2, max_length=4)] = "auto"
    """Tokens of the vocabulary around the entities, see `peftlab.tasks.inputs.marked_texts.marker_ids`."""
    no_relation: str | None = "Other"
    """The label of texts without a relation, which is left out of the mean scores; None: there is none."""
    marks: list[str] = field(default_factory=list, init=False)
    """The tokens that `markers` choose, before and after the head and the tail; set by `bind`."""

    example: ClassVar[type] = MarkedText
    pooling_inputs: ClassVar[frozenset[str]] = frozenset({ENTITY_SPANS})
    encoded_by: ClassVar[frozenset[str]] = frozenset({"markers"})
    exported: ClassVar[str] = (
        "It reads texts with tokens around both entities: `{task.marks[0]}` before and `{task.marks[1]}` after the "
        "first argument of the relation (e1), `{task.marks[2]}` before and `{task.marks[3]}` after the second (e2)."
    )

    def __post_init__(self) -> None:
        """Check the number of markers."""
        super().__post_init__()
        if self.markers != "auto" and len(self.markers) == 3:
            raise ConfigError("task.markers: three tokens; name two, or four: before and after head and tail")

    @override
    def bind(self, processor: Processor) -> None:
        """Keep the marks."""
        super().bind(processor)
        tokenizer = processor.tokenizer
        self.marks = list(tokenizer.convert_ids_to_tokens(list(marker_ids(tokenizer, self.markers))))

    @override
    def learn_labels(self, splits: Mapping[str, Sequence[Any]], declared: Sequence[str] | None) -> None:
        """Set `labels` as a classifier does.

        Raises:
            ConfigError: `no_relation` is none of them, and the scores would count it as a relation.
        """
        super().learn_labels(splits, declared)
        if self.no_relation is not None and self.no_relation not in self.labels:
            raise ConfigError(
                f"task.no_relation = '{self.no_relation}' is no label of the data. Labels: {', '.join(self.labels)}. "
                "Name the one that stands for no relation, or set task.no_relation=null"
            )

    @override
    def from_input(self, fields: Mapping[str, Any], id: str) -> Any:
        """Return an example of ``text`` with marked entities, or of ``text``, ``head`` and ``tail``."""
        text, head, tail = (fields.get(name) for name in ("text", "head", "tail"))
        if not isinstance(text, str):
            raise DataError(_EXPECTED)
        try:
            if head is None and tail is None:
                return MarkedText.of_marked(text, id, None)
            return MarkedText(id, text, _slice(head), _slice(tail), None).checked()
        except ValueError as error:
            raise DataError(f"{error}: {_EXPECTED}") from None

    @override
    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return the counts of a classifier, and of texts that lose tokens of, or between, their entities."""
        lost = super().all_lost(encoded)
        del lost["texts without a token"]
        return {
            **lost,
            "texts cut between their entities": encoded.counts["cut_between"],
            "texts with an entity without a token": int(encoded.arrays["empty"].sum()),
        }

    @override
    def lost(self, encoded: Encoded, index: int) -> dict[str, Any]:
        """Return those of a classifier, and ``cut_between`` where it applies."""
        cut = bool(encoded.arrays["cut_between"][index])
        return super().lost(encoded, index) | ({"cut_between": True} if cut else {})

    @override
    def encode(self, examples: Sequence[Any], processor: Processor, limits: Limits) -> Encoded:
        """Tokenise as `encode_marked` does."""
        if limits.long == "split":
            raise ConfigError("data.long=split: a text with one relation is one row; set data.long=truncate")
        return encode_marked(examples, processor.tokenizer, limits.max_tokens, self.markers)

    @override
    def collate(
        self, examples: Sequence[Any], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return the batch of a classifier, with the places of the entities among its inputs."""
        batch = super().collate(examples, encoded, indices, random)
        batch.inputs[ENTITY_SPANS] = torch.from_numpy(encoded.arrays["entities"][list(indices)]).long()
        return batch

    @override
    def input_of(self, example: Any) -> str:
        """Return the text with marks around its entities."""
        return str(example.marked)

    @property
    @override
    def scorer(self) -> RelationScores:  # type: ignore[override]
        """Return the scorer of directed relations."""
        return RelationScores(self.labels, self.no_relation)

    @override
    def editable(self, example: Any) -> list[EditableText]:
        """Return the text, in which the words of the entities are protected."""
        return [EditableText.of_text(example.text, _merged(example.head, example.tail))]

    @override
    def edited(self, example: Any, texts: Sequence[EditableText]) -> Any:
        """Return the example with its other text, and its entities where they stand in it."""
        (text,) = texts
        slices = _merged(example.head, example.tail)
        moved = [text.offset(span.start) - start for span, (start, _) in zip(text.spans, slices, strict=True)]

        def in_it(entity: Slice) -> Slice:
            by = next(by for by, (start, end) in zip(moved, slices, strict=True) if start <= entity[0] < end)
            return entity[0] + by, entity[1] + by

        return replace(example, text=text.text, head=in_it(example.head), tail=in_it(example.tail))

    @override
    def text_key(self, example: Any) -> str:
        """Return the text with marks: another pair of entities in the same text is another example."""
        return str(example.marked)

    @override
    def encoded_text(self, example: Any) -> Any:
        """Return the text and the places of its entities."""
        return [example.text, *example.head, *example.tail]


def _merged(*slices: Slice) -> list[Slice]:
    """Return the slices in order, those that overlap as one."""
    merged: list[Slice] = []
    for start, end in sorted(slices):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _slice(value: Any) -> Slice:
    if not (isinstance(value, list | tuple) and len(value) == 2 and all(type(one) is int for one in value)):
        raise ValueError("`head` and `tail` are pairs of whole numbers")
    return value[0], value[1]
