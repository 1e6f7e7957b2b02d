"""Instruction tuning of decoders: the assistant's answers in conversations, token by token (Ouyang et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from typing_extensions import override

from peftlab.errors import ConfigError, DataError
from peftlab.generation.conversations import BEGINNING, TEXT, Conversation, Message, messages_of, refuse_system
from peftlab.generation.packing import best_fit, packed
from peftlab.generation.template import MODEL, Rendered, Template, TrainOn, read_template
from peftlab.scores.written_texts import Tokens
from peftlab.tasks.batch import LEARNT, Batch
from peftlab.tasks.general_text import MeasuresForgetting
from peftlab.tasks.inputs.editable import EditableText
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.heads import CAUSAL_LM, Head
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import IGNORED, Encoded, Random, check_size, spec
from peftlab.tasks.writing_task import LanguageTask


@spec
class CausalLm(MeasuresForgetting, LanguageTask):
    """Predicts each learnt token from those before it.

    The examples of a batch share rows, laid out when it is collated: which examples a step learns from is decided
    before, as in every task. Positions begin anew with each example, and no attention mask is given: from that, models
    of transformers see that rows are packed, and build the masks of their own kinds of attention, sliding windows too.
    A boolean mask of four dimensions would be added up, not obeyed, by eager attention, and would lift windows.
    """

    template: str = MODEL
    """The chat template: the model's, one of peftlab's (chatml, plain), or the path of a Jinja file."""
    train_on: TrainOn = "answers"
    """Whether the assistant's turns are learnt, or every token; plain texts always are as a whole."""
    packing: Literal["bfd", "off"] = "bfd"
    """Whether examples share rows of up to ``data.max_tokens`` tokens, by best-fit decreasing; off: none does."""
    head: ClassVar[Head] = CAUSAL_LM
    example: ClassVar[type] = Conversation
    encoded_by: ClassVar[frozenset[str]] = frozenset({"template", "train_on"})
    pointers: ClassVar[frozenset[str] | None] = frozenset({"examples", "prompt_ends"})

    def __post_init__(self) -> None:
        """Read the template.

        Raises:
            ConfigError: there is no such file.
        """
        super().__post_init__()
        self.template = read_template(self.template)

    @property
    def host_work(self) -> str | None:  # type: ignore[override]
        """Why steps cannot be recorded: packed rows differ in number and length."""
        return "task.packing lays out other rows in every step; set task.packing=off" if self.packs else None

    @property
    @override
    def scored(self) -> Tokens:
        return "all tokens" if self.train_on == "all" else "answer tokens"

    @property
    def packs(self) -> bool:
        """Whether examples share rows."""
        return self.packing != "off"

    def bind(self, processor: Processor) -> None:
        """Keep the tokenizer, and the template with it."""
        super().bind(processor)
        self._template = Template(processor.tokenizer, self.template)

    @property
    def stops(self) -> Sequence[int]:
        """Return the tokens that end the assistant's turns in the template."""
        return self._template.stops

    @override
    def prepare_export(self, model: Any, processor: Processor) -> None:
        super().prepare_export(model, processor)
        self._template.put_into(processor.tokenizer)

    def settled(self) -> dict[str, Any]:
        """Return the template itself: a run keeps it, not the place of its file."""
        return {"template": self.template}

    def from_input(self, fields: Mapping[str, Any], id: str) -> Conversation:
        """Return the conversation of ``messages``, or of ``text``, which the user says after a ``system`` turn if there
        is one; an answer that ends it is gold. A single turn of the role ``text``, and ``text`` where there is no chat
        template, is continued."""
        if fields.get("messages") is not None:
            refuse_system(fields)
            messages = messages_of(fields["messages"])
            beginning = messages[0].role == TEXT
            return Conversation(id, (Message(BEGINNING, messages[0].content),) if beginning else messages)
        text, system = fields.get("text"), fields.get("system")
        if not isinstance(text, str) or not isinstance(system, str | None):
            raise DataError(
                "expected `text`, a string that the user says, perhaps with `system`, another, or `messages`, a list "
                "of turns"
            )
        if system is None and not self._template.exists:
            return Conversation(id, (Message(BEGINNING, text),))
        first = () if system is None else (Message("system", system),)
        return Conversation(id, (*first, Message("user", text)))

    def encode(self, examples: Sequence[Conversation], processor: Processor, limits: Limits) -> Encoded:
        """Render conversations to one row each, which loses its end if it is longer than the limit.

        One that waits for its answer loses its beginning: the model writes after its end, as it does in evaluations
        where the answer is cut away.

        Returns:
            arrays ``tokens`` and ``learnt`` of shape (all tokens,): the ids, and whether each is predicted;
            ``examples`` of shape (examples + 1,): where each starts in them; ``prompt``, ``truncated`` and ``empty`` of
            shape (examples,): the tokens before the last answer, the tokens that are lost, and whether an answer has
            none left to learn; ``ends`` of shape (all tokens of ends,): the last tokens of prompts that do not fit
            their rows, each of which starts where ``prompt_ends`` of shape (examples + 1,) says; ``room`` of shape
            (1,): the limit. The counts are ``truncated_texts`` and ``truncated_tokens``.
        """
        if limits.long == "split":
            raise ConfigError("data.long=split: an answer needs all that comes before it; set data.long=truncate")
        template, most = Template(processor.tokenizer, self.template), limits.max_tokens
        rows, ends, truncated, empty = list[Rendered](), list[list[int]](), list[int](), list[bool]()
        for one in examples:
            check_size(sum(len(content) for _, content in one.messages), one.place or one.id)
            whole = template.rendered(one, self.train_on)
            waits = one.answer is None and not one.is_text
            span = slice(-most, None) if waits else slice(most)
            learnt = [False, *whole.learnt[span][1:]]  # the first token follows nothing
            rows.append(Rendered(whole.tokens[span], learnt, min(whole.prompt, most)))
            is_cut = one.answer is not None and whole.prompt > most
            ends.append(whole.tokens[whole.prompt - most : whole.prompt] if is_cut else [])
            truncated.append(len(whole.tokens) - len(rows[-1].tokens))
            empty.append(not (waits or any(rows[-1].learnt)))
        lengths = np.asarray([len(row.tokens) for row in rows], dtype=np.int64)
        arrays: dict[str, np.ndarray] = {
            "tokens": np.asarray([id for row in rows for id in row.tokens], dtype=np.int32),
            "learnt": np.asarray([is_learnt for row in rows for is_learnt in row.learnt], dtype=np.int8),
            "examples": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            "prompt": np.asarray([row.prompt for row in rows], dtype=np.int64),
            "ends": np.asarray([id for end in ends for id in end], dtype=np.int32),
            "prompt_ends": np.cumsum([0, *map(len, ends)], dtype=np.int64),
            "truncated": np.asarray(truncated, dtype=np.int64),
            "empty": np.asarray(empty, dtype=np.int64),
            "room": np.asarray([most], dtype=np.int64),
        }
        counts = {"truncated_texts": sum(lost > 0 for lost in truncated), "truncated_tokens": sum(truncated)}
        return Encoded(arrays, lengths, processor.tokenizer.pad_token_id or 0, counts)

    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return the numbers of truncated texts, of truncated tokens, and of texts that have nothing left to learn."""
        lost = super().all_lost(encoded)
        return {name.replace("without a token", "whose answer is cut away"): count for name, count in lost.items()}

    def encoded_text(self, example: Conversation) -> Any:
        """Return the turns."""
        return example.messages

    def collate(
        self, examples: Sequence[Conversation], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return inputs of shape (rows, tokens), and ``labels`` of the same shape: the token after each, or `IGNORED`.

        Rows of several examples have ``position_ids`` that begin anew with each, in place of ``attention_mask``.
        """
        if not self.packs:
            return self.apart(examples, encoded, indices, random)
        rows = packed(encoded.lengths[list(indices)].tolist(), int(encoded.arrays["room"][0]))
        return self._laid_out(examples, encoded, indices, rows)

    @override
    def together(self, examples: Sequence[Conversation], encoded: Encoded, indices: Sequence[int]) -> Batch:
        rows = best_fit(encoded.lengths[list(indices)].tolist(), int(encoded.arrays["room"][0]))
        return self._laid_out(examples, encoded, indices, rows)

    def apart(
        self, examples: Sequence[Conversation], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return the batch with one row for each example, padded on the right."""
        batch = self._laid_out(examples, encoded, indices, [[place] for place in range(len(indices))])
        return replace(
            batch, pieces=None, padding={"input_ids": encoded.padding, "attention_mask": 0, "labels": IGNORED}
        )

    def _laid_out(
        self, examples: Sequence[Conversation], encoded: Encoded, indices: Sequence[int], rows: Sequence[Sequence[int]]
    ) -> Batch:
        """Return the batch of the examples at `indices`, of which those at the places in each of `rows` share one."""
        tokens, learnt, starts = (encoded.arrays[name] for name in ("tokens", "learnt", "examples"))
        shape = (len(rows), max(sum(int(encoded.lengths[indices[place]]) for place in row) for row in rows))
        fills = {"input_ids": encoded.padding, "position_ids": 0, "labels": IGNORED, "pieces": -1}
        filled = {name: np.full(shape, fill, dtype=np.int64) for name, fill in fills.items()}
        for n, row in enumerate(rows):
            begin = 0
            for place in row:
                span = slice(int(starts[indices[place]]), int(starts[indices[place] + 1]))
                end = begin + span.stop - span.start
                filled["input_ids"][n, begin:end] = ids = tokens[span]
                filled["position_ids"][n, begin:end] = np.arange(end - begin)
                filled["labels"][n, begin : end - 1] = np.where(learnt[span][1:], ids[1:], IGNORED)
                filled["pieces"][n, begin:end] = place
                begin = end
        tensors = {name: torch.from_numpy(values) for name, values in filled.items()}
        pieces, weights = tensors["pieces"], self.weights(examples, encoded, indices)
        shared = any(len(row) > 1 for row in rows)
        masking = {"position_ids": tensors["position_ids"]} if shared else {"attention_mask": (pieces >= 0).long()}
        prompts = [None if examples[i].is_text else self._prompt(encoded, i) for i in indices]
        return Batch(
            inputs={"input_ids": tensors["input_ids"], **masking},
            targets={"labels": tensors["labels"]},
            weights=torch.from_numpy(weights),
            rows=torch.tensor([row[0] for row in rows]),
            pieces=pieces,
            examples=[examples[i] for i in indices],
            tokens=int((filled["pieces"] >= 0).sum()),
            host={LEARNT: int(weights.sum()), "prompts": prompts},
        )

    def _prompt(self, encoded: Encoded, index: int) -> list[int]:
        """Return the tokens that an answer is written after."""
        arrays, start = encoded.arrays, int(encoded.arrays["examples"][index])
        end = arrays["ends"][slice(*arrays["prompt_ends"][index : index + 2])]
        prompt = end if len(end) else arrays["tokens"][start : start + int(arrays["prompt"][index])]
        return [int(token) for token in prompt]

    def weights(self, examples: Sequence[Conversation], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return the number of learnt tokens of each example."""
        learnt, starts = encoded.arrays["learnt"], encoded.arrays["examples"]
        return np.asarray([int(learnt[starts[i] : starts[i + 1]].sum()) for i in indices], dtype=float)

    def prompts(self, batch: Batch) -> list[list[int] | None]:
        """Return the tokens that each answer is written after; None for a plain text, which answers nothing."""
        prompts: list[list[int] | None] = batch.host["prompts"]
        return prompts

    def shown(self, example: Conversation) -> list[dict[str, str]] | None:
        """Return the turns before the answer; None for a plain text."""
        return None if example.is_text else [message._asdict() for message in example.prompt]

    def editable(self, example: Conversation) -> list[EditableText]:
        """Return what the user says; an answer whose words change may be another one."""
        return [EditableText.of_text(content) for role, content in example.messages if role == "user"]

    def edited(self, example: Conversation, texts: Sequence[EditableText]) -> Conversation:
        """Return the conversation with other words of the user."""
        new = iter(text.text for text in texts)
        messages = (one._replace(content=next(new)) if one.role == "user" else one for one in example.messages)
        return replace(example, messages=tuple(messages))

    def text_key(self, example: Conversation) -> str:
        """Return the turns before the last answer; a plain text itself."""
        return "\x1f".join(content for _, content in example.prompt)

    def gold(self, example: Conversation) -> str | None:
        """Return the last answer, or a plain text."""
        return example.messages[0].content if example.is_text else example.answer

    @override
    def general(self, text: Text) -> Conversation:
        return Conversation(text.id, (Message(TEXT, text.text),), text.file, text.line)
