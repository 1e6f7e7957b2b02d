"""A model of clicks: what a text says, who reads it, which item it is, and numbers, through one small network."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.modeling_outputs import ModelOutput, SequenceClassifierOutput
from typing_extensions import override

from peftlab.tasks.networks.embeddings import mean_of_tokens
from peftlab.tasks.networks.heads import Head
from peftlab.tasks.networks.own_model import OwnModel

SETTINGS = "clicks"
"""The entry of a model's configuration that describes the head: how many users, items and numbers, and sizes."""
USER, ITEM, NUMBERS = "user_ids", "item_ids", "numbers"
"""Inputs: the user and the item of each row, 0 if unknown, (rows,); and standardised numbers, (rows, numbers)."""


class ClickModel(OwnModel):
    """An encoder, the normalised mean of its tokens, embeddings of ids, and a network of one hidden layer over all.

    All unknown users share a row of the table, and so do all unknown items.
    """

    suffix: ClassVar[str] = "ForClicks"

    @override
    def build(self, config: PretrainedConfig) -> None:
        about = getattr(config, SETTINGS)
        size = about["size"]
        self.users = nn.Embedding(1 + about["users"], size)
        self.items = nn.Embedding(1 + about["items"], size)
        self.hidden = nn.Linear(config.hidden_size + 2 * size + about["numbers"], about["hidden"])
        self.dropout = nn.Dropout(about["dropout"])
        self.classifier = nn.Linear(about["hidden"], 1)

    @override
    def forward(self, attention_mask: Tensor | None = None, **inputs: Any) -> ModelOutput:
        """Return the logit of each row, (rows, 1), from its text, ids and numbers."""
        user, item, numbers = (inputs.pop(name, None) for name in (USER, ITEM, NUMBERS))
        if user is None or item is None or numbers is None:
            raise ValueError("the inputs lack users, items or numbers: task=click makes them")
        present = {name: value for name, value in inputs.items() if value is not None}
        text = mean_of_tokens(self.base_model(attention_mask=attention_mask, **present)[0], attention_mask)
        width = self.hidden.in_features - text.shape[-1] - 2 * self.users.embedding_dim
        parts = [text, self.users(user), self.items(item), numbers[:, :width]]
        joined = torch.cat([part.to(text.dtype) for part in parts], -1).to(self.hidden.weight.dtype)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(nn.functional.gelu(self.hidden(joined)))))

    @override
    def read(self, states: Tensor, attention_mask: Tensor | None) -> ModelOutput:
        raise NotImplementedError("it reads more than states: see `forward`")


# of one label, which a sigmoid gives
CLICK = Head(
    f"{__name__}.{ClickModel.__name__}",
    "SEQ_CLS",
    "text-classification",
    problem_type="multi_label_classification",
    size=1,
)
