"""Representation fine-tuning: edits hidden states in a subspace and leaves the weights unchanged."""

from __future__ import annotations

from contextlib import nullcontext
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.generating import generates
from peftlab.methods.insertion import Block, BlockInsertion, add_after
from peftlab.methods.method import LARGEST, MethodContext, spec


class LowRankIntervention(nn.Module):
    """R^T (W h + b - R h), with orthonormal rows of R (Wu et al. 2024, equation 2).

    R is the Q of the QR decomposition of a free matrix. W is initialised to R and b to zero, so the model starts
    unchanged; the paper's code initialises W otherwise.
    """

    def __init__(self, hidden: int, rank: int, tokens: int | None) -> None:
        super().__init__()
        self.tokens = tokens
        self.basis = nn.Parameter(torch.randn(hidden, rank))
        self.source = nn.Linear(hidden, rank)
        with torch.no_grad():
            self.source.weight.copy_(self.rotation)
            self.source.bias.zero_()

    @property
    def rotation(self) -> Tensor:
        """Return R, shape (rank, hidden)."""
        return torch.linalg.qr(self.basis.float())[0].T

    def forward(self, states: Tensor) -> Tensor:
        """Return the update to hidden states of shape (batch, tokens, hidden)."""
        chosen = states if self.tokens is None else states[:, : self.tokens]
        device = states.device.type  # of one without values, there is no autocast
        exact = torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
        with exact:  # bf16 would lose what sets W apart from R
            rotation, own = self.rotation, chosen.to(torch.promote_types(states.dtype, torch.float32))
            edit = ((self.source(own) - nn.functional.linear(own, rotation)) @ rotation).to(states.dtype)
        return edit if self.tokens is None else nn.functional.pad(edit, (0, 0, 0, states.shape[1] - edit.shape[1]))


@spec
class LoReFT(BlockInsertion):
    """An intervention after every block, shared by all tokens or by the first ones."""

    rank: int = Field(gt=0, le=LARGEST)
    """The size of the subspace."""
    tokens: int | None = Field(default=None, gt=0, le=LARGEST)
    """The number of leading tokens to edit; None: all of them, as tagging words needs."""
    not_averaged: ClassVar[str | None] = "it turns hidden states, and the mean of rotations over models is none"

    @override
    def insert(self, model: nn.Module, context: MethodContext) -> None:
        """Insert the interventions.

        Raises:
            ConfigError: only leading tokens are to be edited, and the model generates.
        """
        if self.tokens is not None and generates(model):
            raise ConfigError(
                f"peft.tokens={self.tokens}: counts from the first token of a row, and {type(model).__name__} writes a "
                "text in steps of one token. Set peft.tokens=null"
            )
        super().insert(model, context)

    @override
    def insert_into(self, blocks: list[Block]) -> None:
        """Insert an intervention after each of `blocks`.

        Raises:
            ConfigError: the rank is larger than the hidden size.
        """
        for block in blocks:
            if self.rank > block.hidden:
                raise ConfigError(f"peft.rank={self.rank} is more than the model's hidden size, {block.hidden}")
            add_after(block.module, "intervention", LowRankIntervention(block.hidden, self.rank, self.tokens))
