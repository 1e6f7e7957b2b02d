"""Retrieval: the items that suit a query or a user best, out of all that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.recommending.interactions import Interaction
from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.padded_texts import padded
from peftlab.tasks.inputs.texts import Text, encode_texts
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.embeddings import products
from peftlab.tasks.networks.heads import Head
from peftlab.tasks.networks.towers import HISTORY, INDEX, RETRIEVAL, SETTINGS, WITH_IDS, HistoryTowers
from peftlab.tasks.outputs.distributions import Distributions
from peftlab.tasks.processor import Processor
from peftlab.tasks.ranking_task import RankingTask
from peftlab.tasks.task import Encoded, Random, spec

_OUTSIDE = -1e9
"""The similarity of what is not compared: its share in a softmax is exactly 0."""
_BLOCK = 64
"""Texts of items that are embedded at once."""


@spec
class Retrieval(RankingTask):
    """The next item of a user, or the answer to a query, among all items.

    ``user=text``: two towers with one shared encoder (Yi et al. 2019). What a user has asked for, or the titles of his
    last items, and the texts of items become vectors of length 1, and the loss is a softmax over the user's item and
    `negatives` others. These are drawn for each example by seed and epoch from the items of the training examples, so
    with the same chances that the other examples of a batch would give: the loss of an example does not depend on how
    batches are divided. Each logit is corrected by the logarithm of its item's share (logQ), without which popular
    items would be pushed down for being drawn often; a negative that is the user's own item is left out.

    ``user=history``: the towers of `HistoryTowers`, over the items' texts, as the pretrained encoder embeds them once,
    and their ids. Only these towers are trained, by a softmax over all items of the training examples: seconds where
    texts take hours. In a share of the examples ids are dropped, so that items and users without any are learnt too.
    """

    user: Literal["text", "history"] = "text"
    """What is read of a user."""
    negatives: int = Field(default=15, ge=1, le=255)
    """Items beside the right one that the encoder reads for each training example."""
    items: Literal["text", "ids", "both"] = "both"
    """What items are known by, to towers over histories."""
    size: int = Field(default=64, ge=1)
    """Length of the vectors of towers over histories."""
    id_dropout: float = Field(default=0.3, ge=0, lt=1)
    """The share of training examples that ids are dropped in."""
    user_dropout: float = Field(default=0.3, ge=0, lt=1)
    """Dropout of the user's vector."""
    head: ClassVar[Head] = RETRIEVAL
    encoded_by: ClassVar[frozenset[str]] = frozenset({"user", "recent"})
    pointers: ClassVar[frozenset[str] | None] = frozenset({"examples"})
    host_work: ClassVar[str | None] = None

    @property
    def acts_with(self) -> Mapping[str, tuple[str, Any]]:  # type: ignore[override]  # it depends on an option
        """What else an option needs: ids are dropped beside texts, in towers over histories alone."""
        over_histories = dict.fromkeys(("items", "size", "user_dropout", "id_dropout"), ("task.user", "history"))
        ids = {} if self.reads_text else {"id_dropout": ("task.items", "both")}
        return {"negatives": ("task.user", "text"), **over_histories, **ids}

    @property
    def reads_text(self) -> bool:
        """Whether the encoder reads texts of users."""
        return self.user == "text"

    @property
    def draws_inputs(self) -> bool:  # type: ignore[override]  # it depends on an option
        """Whether negatives, or the dropping of ids, are drawn anew in every epoch."""
        return self.reads_text or self.id_dropout > 0

    @property
    def draws_partners(self) -> bool:  # type: ignore[override]  # it depends on an option
        """Whether items are drawn."""
        return self.reads_text

    @property
    def couples_rows(self) -> bool:  # type: ignore[override]  # it depends on an option
        """Whether the rows of an example are a user and several items."""
        return self.reads_text

    @property
    def fits_head(self) -> bool:  # type: ignore[override]  # it depends on an option
        """Whether the index of items is fitted to the encoder."""
        return self.reads_text

    @property
    @override
    def reading_options(self) -> list[str]:
        """The towers over histories, whose softmax is over the items of the training examples."""
        return [] if self.reads_text else ["task.user=history"]

    def head_settings(self) -> dict[str, Any]:
        """Return the number of items, and what the towers are."""
        towers: dict[str, Any] = {"recent": 0}
        if not self.reads_text:
            towers = {"recent": self.recent, "size": self.size, "temperature": self.temperature}
            towers |= {"dropout": self.user_dropout, "texts": self.items != "ids", "ids": self.items != "text"}
        return super().head_settings() | {SETTINGS: towers}

    def encode(self, examples: Sequence[Interaction], processor: Processor, limits: Limits) -> Encoded:
        """Tokenise what is read of users; over histories, no text is."""
        if limits.long == "split":
            raise ConfigError("data.long=split: a user is one row; set data.long=truncate")
        texts = [Text(one.id, self._text(one), None, file=one.file, line=one.line) for one in examples]
        return encode_texts(texts, processor.tokenizer, limits.max_tokens)

    def encoded_text(self, example: Interaction) -> Any:
        """Return what is read of the user."""
        return self._text(example)

    def _text(self, example: Interaction) -> str:
        return example.text(self.recent) if self.reads_text else ""

    def collate(
        self, examples: Sequence[Interaction], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return one row a user; with `random`, and texts, then his item and the negatives, as further rows.

        Targets: ``item``, the place of the item of each row, -1 if there is none; of groups, also ``role`` (0 user, 1
        right item, 2 negative) and ``log_share``; all of shape (rows,). Over histories, ``trained`` of shape (items,)
        says which items the training examples have.
        """
        chosen = [examples[i] for i in indices]
        if random is not None and self.reads_text:
            return self._groups(chosen, encoded, indices, random)
        items = torch.tensor([-1 if one.item is None else one.item for one in chosen])
        inputs, padding = padded([(encoded, i) for i in indices])
        targets = {"item": items}
        if not self.reads_text:
            inputs |= self._histories(chosen, [None if random is None else random(i) for i in indices])
            if random is not None:
                assert self._items is not None, "it has studied the training examples"
                trained = torch.from_numpy(np.isfinite(self._items.log_share))
                targets["trained"] = trained.expand(len(chosen), -1)
        return Batch(
            inputs=inputs,
            targets=targets,
            weights=torch.from_numpy(self.weights(examples, encoded, indices)),
            rows=torch.arange(len(chosen)),
            examples=chosen,
            tokens=int(inputs["attention_mask"].sum()),
            padding=padding,
        )

    def _groups(self, chosen: Sequence[Interaction], encoded: Encoded, indices: Sequence[int], random: Random) -> Batch:
        assert self._items is not None, "it has studied the training examples"
        rows, items, size = [], [], 2 + self.negatives
        for one, i in zip(chosen, indices, strict=True):
            drawn = self._items.drawn[random(i).integers(0, len(self._items.drawn), self.negatives)].tolist()
            own = [one.item, one.item, *drawn]
            items += own
            rows += [(encoded, i), *((self._items.encoded, item) for item in own[1:])]
        inputs, padding = padded(rows)
        return Batch(
            inputs=inputs,
            targets={
                "item": torch.tensor(items),
                "role": torch.tensor([0, 1, *[2] * self.negatives] * len(chosen)),
                "log_share": torch.from_numpy(self._items.log_share[items]).float(),
            },
            weights=torch.from_numpy(np.ones(len(chosen))),
            rows=torch.arange(len(chosen)).repeat_interleave(size),
            examples=list(chosen),
            tokens=int(inputs["attention_mask"].sum()),
            padding=padding,
        )

    def _histories(
        self, chosen: Sequence[Interaction], random: Sequence[np.random.Generator | None]
    ) -> dict[str, Tensor]:
        histories = np.zeros((len(chosen), self.recent), np.int64)
        for row, one in zip(histories, chosen, strict=True):
            last = one.last(self.recent)[::-1]
            row[: len(last)] = np.asarray(last, np.int64) + 1
        with_ids = [each is None or bool(each.random() >= self.id_dropout) for each in random]
        return {HISTORY: torch.from_numpy(histories), WITH_IDS: torch.tensor(with_ids)}

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the cross-entropy of each user's item: among the drawn ones, those trained on, or all."""
        if "role" in batch.targets:
            return self._among_drawn(outputs.embeddings, batch)
        all_items = self.distributions(outputs, batch)
        losses = F.cross_entropy(all_items.logits, all_items.gold, reduction="none")
        return batch.by_example(losses) * batch.weights.to(losses.dtype)

    @override
    def distributions(self, outputs: Any, batch: Batch) -> Distributions:
        """Return the distribution over the items for each user: those trained on in training, else all.

        Raises:
            ConfigError: only some items are drawn, for each user others.
        """
        if "role" in batch.targets:
            raise ConfigError(
                f"regularizer: task={self.name} with task.user=text compares a user with few items, and this "
                "regulariser compares or reshapes distributions over all. Choose one that only needs the loss, such as "
                "fgm or l2_sp, or set task.user=history"
            )
        logits = outputs.logits.float()
        if "trained" in batch.targets:
            logits = logits.masked_fill(~batch.targets["trained"], _OUTSIDE)
        return Distributions(logits, batch.targets["item"].clamp(min=0), batch.weights.float())

    def _among_drawn(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """Return the sampled softmax with logQ correction (Yi et al. 2019, equation 3)."""
        item, role, log_share = (batch.targets[name] for name in ("item", "role", "log_share"))
        logits = products(embeddings) / self.temperature - log_share
        together = batch.rows[:, None] == batch.rows[None]
        repeated = (role == 2) & (item[:, None] == item[None])  # by chance the user's own item
        log_p = logits.masked_fill(~together | (role == 0) | repeated, _OUTSIDE).log_softmax(-1)
        own = together & (role == 1) & (role == 0)[:, None]
        return batch.by_example(-(log_p * own).sum(-1)) * batch.weights.to(log_p.dtype)

    @torch.no_grad()
    def fit_head(self, model: nn.Module, seen: Iterable[tuple[Any, Batch]]) -> None:
        """Set the index to the vectors of the items' texts; the users `seen` are not needed."""
        vectors = self._embedded(model)
        for name, parameter in model.named_parameters():
            *_, layer, kind = f".{name}".replace(".modules_to_save.default", "").split(".")
            if layer == INDEX and parameter.requires_grad:
                parameter.copy_(vectors / self.temperature if kind == "weight" else torch.zeros_like(parameter))

    def _embedded(self, model: nn.Module) -> Tensor:
        """Return the embeddings of the items' texts, (items, hidden)."""
        device = next(model.parameters()).device
        return torch.cat([self.outputs(model, batch.to(device)).embeddings for batch in self._item_batches()])

    def _item_batches(self) -> Iterator[Batch]:
        assert self._items is not None, "it has studied the training examples"
        encoded, number = self._items.encoded, len(self.labels)
        for start in range(0, number, _BLOCK):
            inputs, padding = padded([(encoded, item) for item in range(start, min(start + _BLOCK, number))])
            rows = torch.arange(len(inputs["input_ids"]))
            yield Batch(inputs, {}, torch.zeros(len(rows), dtype=torch.double), rows, [], 0, padding=padding)

    @override
    def check_model(self, model: Any) -> None:
        if self.reads_text:
            return
        others = [name for name, p in model.named_parameters() if p.requires_grad and ".towers." not in f".{name}"]
        if others:
            raise ConfigError(
                f"task.user=history: the towers over histories read no text, and {others[0]} would not be trained. Set "
                "peft=head, or task.user=text"
            )

    @property
    @override
    def head_of(self) -> dict[str, str]:
        return {} if self.reads_text else {"towers": "data.labels"}

    @override
    @torch.no_grad()
    def begin_head(self, model: nn.Module) -> None:
        """Give towers over histories the vectors of the items' texts, by the encoder as it is."""
        if self.reads_text:
            return
        training = model.training
        model.eval()
        vectors = None if self.items == "ids" else self._embedded(model)
        for module in model.modules():
            if isinstance(module, HistoryTowers):
                module.begin(vectors)
        model.train(training)
