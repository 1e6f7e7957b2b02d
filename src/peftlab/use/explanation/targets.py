"""What is explained: one logit of a model, by a name that a user can write.

Logits, never probabilities: a softmax saturates, and mixes in what speaks for the other labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from peftlab.errors import UserError, did_you_mean
from peftlab.scores.joint_scores import INTENT
from peftlab.tasks.batch import Batch
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import IGNORED, Task
from peftlab.use.explanation.words import first_tokens

NO_ANSWER = "no answer"
"""The target of a question that the text does not answer."""


@dataclass(frozen=True)
class Target:
    """A logit, or a sum of two, of one row of a batch."""

    name: str
    """As a user writes it."""
    row: int
    score: Callable[[Any], Tensor]
    """Returns it from the outputs for copies of the row, shape (copies,)."""
    positions: tuple[int, ...] = ()
    """The tokens of the row, or of the decoder's, that it is read at; empty: the head reads the row as a whole."""
    until: int | None = None
    """The last token that it sees; None: it sees all of the row."""


def target_of(task: Task, processor: Processor, batch: Batch, outputs: Any, wanted: str | None) -> Target:
    """Return the target that a user names, by default what the model predicts.

    Args:
        task: the task.
        processor: the one that the batch was encoded with.
        batch: of one example.
        outputs: the model's outputs for the batch.
        wanted: a label; for words ``TAG@WORD`` or ``TYPE@WORD``, WORD being its index from 0, or the word itself; the
            number of a choice; a part of the text for an answer in it, with ``@CHARACTER``, where it begins, if it is
            not the first such part, or `NO_ANSWER`; for language models ``TOKEN@N``, the token at the Nth place of the
            answer. None: the predicted one, of words the first that is not O.

    Raises:
        UserError: there is no such target; says which there are.
    """
    kind = task.head.outputs
    if task.head.of_words and len(batch.rows) > 1:
        raise UserError(
            f"explain: task={task.name} asks for this text in {len(batch.rows)} rows, for words of several tokens or "
            "several templates, and the words of one row are explained. Train with words of one token, or "
            "task.multi_token=first, and one template"
        )
    if kind == "token":
        return _of_words(task, batch, outputs, wanted)
    if kind == "span":
        return _of_span(task, batch, outputs, wanted)
    if kind == "vocabulary":
        return _of_vocabulary(task, processor, batch, outputs, wanted)
    if task.couples_rows and not task.labels:
        return _of_choices(batch, outputs, wanted)
    names = task.labels or ["value"]
    label = names[int(outputs.logits[0].argmax())] if wanted is None else wanted
    place = _place(label, names)
    return Target(label, 0, lambda outputs: outputs.logits[:, place])


def _of_words(task: Task, batch: Batch, outputs: Any, wanted: str | None) -> Target:
    tags = [label for label in task.labels if not label.startswith(INTENT)]
    if len(tags) < len(task.labels) and (wanted is None or wanted.startswith(INTENT)):
        place = len(tags) + int(outputs.logits[0, 0, len(tags) :].argmax())
        place = place if wanted is None else _place(wanted, task.labels)
        return Target(task.labels[place], 0, lambda outputs: outputs.logits[:, 0, place], (0,))
    places = first_tokens(batch)
    if not places:
        raise UserError("explain: the model sees no word of this text")
    best = [tags[int(outputs.logits[row, position, : len(tags)].argmax())] for row, position, _ in places]
    if wanted is None:
        chosen = next((n for n, tag in enumerate(best) if tag != "O"), None)
        if chosen is None:
            raise UserError(f"explain: every word is predicted O. Name a target, such as --target {tags[-1]}@0")
        (row, position, word), tag = places[chosen], best[chosen]
    else:
        name, at, which = wanted.partition("@")
        if not at:
            raise UserError(
                f"--target {wanted}: a word's tag is meant by TAG@WORD, such as {tags[-1]}@0: the word's index, from 0,"
                " or the word itself"
            )
        row, position, word = places[_word(which, batch.examples[0].words, places)]
        candidates = [name] if name in tags else [tag for tag in tags if tag[2:] == name and name]
        if not candidates:
            types = list(dict.fromkeys(tag[2:] for tag in tags if tag != "O"))
            raise UserError(
                f"--target {wanted}: there is no tag {name}.{did_you_mean(name, [*tags, *types])} "
                f"Allowed: {', '.join([*types, *tags])}"
            )
        tag = max(candidates, key=lambda one: float(outputs.logits[row, position, tags.index(one)]))
    number = tags.index(tag)
    return Target(f"{tag}@{word}", row, lambda outputs: outputs.logits[:, position, number], (position,))


def _word(which: str, words: Sequence[str], places: Sequence[tuple[int, int, int]]) -> int:
    """Return which of `places` has the word that a user names, by its index or by itself."""
    seen = [word for _, _, word in places]
    if which.isdecimal() and which.isascii():
        matches = [n for n, word in enumerate(seen) if word == int(which)]
        allowed = f"the model sees the words {seen[0]} to {seen[-1]}"
    else:
        matches = [n for n, word in enumerate(seen) if words[word] == which]
        allowed = "write its index, from 0"
    if len(matches) != 1:
        how = f"are {len(matches)} such words" if matches else "is no such word"
        raise UserError(f"--target ...@{which}: there {how}: {allowed}")
    return matches[0]


def _of_choices(batch: Batch, outputs: Any, wanted: str | None) -> Target:
    count = len(outputs.logits)
    if wanted is None:
        row = int(outputs.logits.flatten().argmax())
    elif wanted.isdecimal() and wanted.isascii() and int(wanted) < count:
        row = int(wanted)
    else:
        raise UserError(f"--target {wanted}: name a choice by its number, 0 to {count - 1}")
    return Target(str(row), row, lambda outputs: outputs.logits.flatten())


def _of_span(task: Task, batch: Batch, outputs: Any, wanted: str | None) -> Target:
    (example,) = batch.examples
    start: int | None
    if wanted is None:
        (answer,) = task.answers(outputs, batch, None, False)
        start, end = answer["start"], answer["end"]
    elif wanted == NO_ANSWER and getattr(task, "no_answer", False):
        start = None
    else:
        start, end = _part(example.context, wanted)
    ends = [outputs.start_logits, outputs.end_logits]

    def both(row: int, first: int, last: int) -> float:
        return float(ends[0][row, first] + ends[1][row, last])

    if start is None:  # the score of no answer is the least of all windows
        nulls = batch.targets["null"].tolist()
        spans = [(row, null, null) for row, null in enumerate(nulls)]
        row, first, last = min(spans, key=lambda span: both(*span))
        name = NO_ANSWER
    else:
        spans = [
            (row, firsts[0], lasts[0])
            for row, places in enumerate(batch.host["characters"])
            if (firsts := _holding(places, start)) and (lasts := _holding(places, end - 1))
        ]
        if not spans:
            raise UserError(f"--target {wanted}: this part of the text was cut off; no window holds it")
        row, first, last = max(spans, key=lambda span: both(*span))
        name = example.context[start:end]
        if example.context.find(name) != start:
            name = f"{name}@{start}"
    return Target(
        name, row, lambda outputs: outputs.start_logits[:, first] + outputs.end_logits[:, last], (first, last)
    )


def _part(context: str, wanted: str) -> tuple[int, int]:
    """Return where the part of a text that a user names begins and ends, in characters."""
    text, _, place = wanted.rpartition("@")
    if wanted and (start := context.find(wanted)) >= 0:
        return start, start + len(wanted)
    if text and place.isdecimal() and place.isascii() and context.startswith(text, int(place)):
        return int(place), int(place) + len(text)
    raise UserError(f"--target {wanted}: an answer is a part of the text, and the text does not have this one")


def _holding(places: Any, character: int) -> list[int]:
    return [n for n, (start, end) in enumerate(places.tolist()) if start <= character < end]


def _of_vocabulary(task: Task, processor: Processor, batch: Batch, outputs: Any, wanted: str | None) -> Target:
    if task.couples_rows:
        raise UserError(f"explain: task={task.name} compares several answers; a single logit says nothing of that")
    tokenizer = processor.tokenizer
    asked = batch.targets["asked"] if "asked" in batch.targets else batch.targets["labels"] != IGNORED
    places = asked.nonzero().tolist()
    writes = task.head.of is not None
    if not places and writes:  # nothing is given to predict: the token after the prompt
        before = int(batch.inputs["attention_mask"][0].sum()) - 1 if task.head.of == "decoder" else 0
        places = [[0, before]]
    if not places:
        raise UserError("explain: no token of this text is predicted")
    name, _, which = (wanted or "").rpartition("@") if "@" in (wanted or "") else (wanted or "", "", "0")
    if not (which.isdecimal() and which.isascii() and int(which) < len(places)):
        raise UserError(f"--target {wanted}: name a token by TOKEN@N, N from 0 to {len(places) - 1}")
    row, position = places[int(which)]
    id = _token(tokenizer, name) if name else int(outputs.logits[row, position].argmax())
    shown = f"{tokenizer.convert_ids_to_tokens(id)}@{which}"
    until = position if task.head.of == "decoder" else None
    return Target(shown, row, lambda outputs: outputs.logits[:, position, id], (position,), until)


def _token(tokenizer: Any, name: str) -> int:
    if name in (vocabulary := tokenizer.get_vocab()):
        return int(vocabulary[name])
    ids = tokenizer.encode(name, add_special_tokens=False)
    if len(ids) != 1:
        raise UserError(
            f"--target {name}: it is {len(ids)} tokens, and one is explained: "
            f"{', '.join(map(str, tokenizer.convert_ids_to_tokens(ids)))}"
        )
    return int(ids[0])


def _place(label: str, labels: Sequence[str]) -> int:
    if label not in labels:
        raise UserError(
            f"--target {label}: there is no such label.{did_you_mean(label, labels)} Allowed: {', '.join(labels)}"
        )
    return list(labels).index(label)
