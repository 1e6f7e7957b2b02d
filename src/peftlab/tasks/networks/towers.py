"""Two towers: one model that embeds a user and every item, so that the best items are those whose vectors are near."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig
from transformers.modeling_outputs import ModelOutput
from typing_extensions import override

from peftlab.tasks.networks.embeddings import mean_of_tokens
from peftlab.tasks.networks.heads import Head
from peftlab.tasks.networks.own_model import OwnModel

SETTINGS = "towers"
"""The entry of a model's configuration that describes its towers: a dict, see `HistoryTowers`."""
INDEX = "index"
"""The child of the model, a linear layer, whose rows are the vectors of the items, over the temperature."""
HISTORY, WITH_IDS = "history", "with_ids"
"""Inputs: the last items of each user, from 1, the newest first, and 0 for none, (rows, recent); and whether ids are
used, (rows,)."""


@dataclass
class Ranked(ModelOutput):  # type: ignore[misc]
    """The scores of all items, and the embeddings of texts."""

    logits: Tensor | None = None
    """Shape (rows, items)."""
    embeddings: Tensor | None = None
    """Of length 1, shape (rows, hidden); None where no text is read."""


class TwoTowers(OwnModel):
    """An encoder of texts that is both towers, and the items' vectors; or towers over histories, see `HistoryTowers`.

    The layer `INDEX` is the index of items. With texts, it is fitted to the encoder and never trained by gradients.
    """

    suffix: ClassVar[str] = "ForRetrieval"

    @override
    def build(self, config: PretrainedConfig) -> None:
        settings = getattr(config, SETTINGS)
        if settings["recent"]:
            self.towers = HistoryTowers(config.num_labels, config.hidden_size, **settings)
        else:
            self.index = nn.Linear(config.hidden_size, config.num_labels)

    @override
    def forward(self, attention_mask: Tensor | None = None, **inputs: Any) -> ModelOutput:
        """Return the scores of all items for histories, of which no text is read; without, for texts, if they have an
        index, and the embeddings of the texts."""
        history, with_ids = inputs.pop(HISTORY, None), inputs.pop(WITH_IDS, None)
        if history is not None:
            return Ranked(self.towers(history, with_ids))
        return super().forward(attention_mask, **inputs)

    @override
    def get_input_embeddings(self) -> nn.Module:
        """Return the embeddings of words.

        Raises:
            NotImplementedError: towers over histories read no words.
        """
        if hasattr(self, "towers"):
            raise NotImplementedError("towers over histories read no words")
        embeddings: nn.Module = super().get_input_embeddings()
        return embeddings

    @override
    def read(self, states: Tensor, attention_mask: Tensor | None) -> Ranked:
        embeddings = mean_of_tokens(states, attention_mask)
        if not hasattr(self, INDEX):
            return Ranked(None, embeddings)
        # in bf16, many of thousands of items would have the same score, and ties count against the right one
        with torch.autocast(states.device.type, enabled=False):
            return Ranked(self.index(embeddings.to(self.index.weight.dtype)), embeddings)


class HistoryTowers(nn.Module):
    """A tower of items, and a tower of users that pools the items of a history.

    An item's vector is its text's, projected, plus one of its id; a user's is the weighted mean of the same of his last
    items, projected otherwise, with a learned weight for each place in the history. The score of an item is the cosine
    of both over the temperature, plus how popular its text and its id are. Where ids are dropped, nothing depends on
    them: so an item that nobody has had has a vector and a score too.

    Args:
        items: number of items.
        hidden: length of the vectors of texts.
        recent: number of items of a history that are read.
        size: length of the vectors of users and items.
        temperature: divides cosines.
        dropout: of the user's vector.
        texts: whether texts are used.
        ids: whether ids are.
    """

    def __init__(
        self,
        items: int,
        hidden: int,
        recent: int,
        size: int,
        temperature: float,
        dropout: float,
        texts: bool,
        ids: bool,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.places = nn.Embedding(recent, 1)
        self.dropout = nn.Dropout(dropout)
        if texts:
            self.texts = nn.Embedding(items, hidden)
            self.of_item, self.of_user = nn.Linear(hidden, size), nn.Linear(hidden, size)
            self.liked_text = nn.Linear(hidden, 1, bias=False)
        if ids:
            self.ids = nn.Embedding(items, size)
            self.id_of_user = nn.Linear(size, size, bias=False)
            self.liked_id = nn.Embedding(items, 1)

    @torch.no_grad()
    def begin(self, vectors: Tensor | None) -> None:
        """Set the vectors of the items' texts, (items, hidden), and let ids begin at 0 beside them: an item without
        training keeps its text alone."""
        nn.init.zeros_(self.places.weight)
        if vectors is not None:
            self.texts.weight.copy_(vectors)
            if hasattr(self, "ids"):
                nn.init.zeros_(self.ids.weight)
        if hasattr(self, "ids"):
            nn.init.zeros_(self.liked_id.weight)

    def forward(self, history: Tensor, with_ids: Tensor) -> Tensor:
        """Return the scores of all items, (rows, items), in fp32 at least."""
        with torch.autocast(history.device.type, enabled=False):
            scores = self._scores(history, ids=True)
            if not hasattr(self, "texts") or not hasattr(self, "ids") or not (self.training or not with_ids.all()):
                return scores
            return torch.where(with_ids.unsqueeze(-1).bool(), scores, self._scores(history, ids=False))

    def _scores(self, history: Tensor, ids: bool) -> Tensor:
        items, users = self._vectors(ids)
        real = history > 0
        weights = self.places.weight[: history.shape[1], 0].exp() * real
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-9)
        user = torch.einsum("rp,rps->rs", weights, users[(history - 1).clamp(min=0)])
        cosines = F.normalize(self.dropout(user), dim=-1) @ F.normalize(items, dim=-1).T
        return cosines / self.temperature + self._liked(ids)

    def _vectors(self, ids: bool) -> tuple[Tensor, Tensor]:
        """Return the vectors of items as candidates, and as parts of a history, (items, size) each."""
        both: list[tuple[Tensor, Tensor]] = []
        if hasattr(self, "texts"):
            texts = self.texts.weight.detach()
            both.append((self.of_item(texts), self.of_user(texts)))
        if hasattr(self, "ids") and (ids or not both):
            both.append((self.ids.weight, self.id_of_user(self.ids.weight)))
        return sum(item for item, _ in both[1:]) + both[0][0], sum(user for _, user in both[1:]) + both[0][1]

    def _liked(self, ids: bool) -> Tensor:
        """Return how much items are liked by everybody, shape (items,)."""
        of_text = self.liked_text(self.texts.weight.detach())[:, 0] if hasattr(self, "texts") else 0
        of_id = self.liked_id.weight[:, 0] if hasattr(self, "ids") and (ids or not hasattr(self, "texts")) else 0
        liked: Tensor = of_text + of_id  # type: ignore[assignment]  # one of them is there
        return liked


RETRIEVAL = Head(f"{__name__}.{TwoTowers.__name__}", "SEQ_CLS", "feature-extraction")
