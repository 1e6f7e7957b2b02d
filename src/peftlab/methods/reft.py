"""Representation fine-tuning: hidden states are edited in a subspace; the weights stay."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from peftlab.errors import ConfigError
from peftlab.methods.insertion import Block, BlockInsertion, add_after
from peftlab.methods.method import LARGEST, spec


class LowRankIntervention(nn.Module):
    """R^T (W h + b - R h), with orthonormal rows of R (Wu et al. 2024, equation 2).

    R is the Q of the QR decomposition of a free matrix. W begins as R and b as zero, so that the model begins as it
    was; the paper's code begins with another W.
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
        """Return what is added to hidden states of shape (batch, tokens, hidden)."""
        rotation = self.rotation
        chosen = states if self.tokens is None else states[:, : self.tokens]
        edit = (self.source(chosen) - nn.functional.linear(chosen, rotation)) @ rotation
        return edit if self.tokens is None else nn.functional.pad(edit, (0, 0, 0, states.shape[1] - edit.shape[1]))


@spec
class LoReFT(BlockInsertion):
    """An intervention after every block, on all tokens or the first ones, the same for each of these tokens."""

    rank: int = Field(gt=0, le=LARGEST)
    """The size of the subspace."""
    tokens: int | None = Field(default=None, gt=0, le=LARGEST)
    """How many, from the first on; None: all of them, which tagging words wants."""

    def insert_into(self, blocks: list[Block]) -> None:
        """See `BlockInsertion.insert_into`.

        Raises:
            ConfigError: the subspace is larger than the space.
        """
        for block in blocks:
            if self.rank > block.hidden:
                raise ConfigError(f"peft.rank={self.rank} is more than the model's hidden size, {block.hidden}")
            add_after(block.module, "intervention", LowRankIntervention(block.hidden, self.rank, self.tokens))
