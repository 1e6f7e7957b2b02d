"""NEFTune: uniform noise on the input embeddings in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from peftlab.regularizers.embeddings import changed, perturbed_positions, without_embeddings
from peftlab.regularizers.regularizer import PassRule, spec
from peftlab.tasks.batch import Batch


@spec
class NefTune(PassRule):
    """Adds noise from ``U(-1, 1) * alpha / sqrt(L * d)`` to the embeddings of each text (Jain et al. 2023, alg. 1).

    d is the size of an embedding and L the number of the text's own tokens. Implementations that take the length to
    which a batch is padded add less noise to a text the longer the others are. Padding gets none.
    """

    alpha: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    """The scale of the noise, 5 to 15 in the paper."""
    largest: Tensor | None = field(default=None, init=False)
    """The bound of the noise in the last pass, the mean over texts."""
    draws: ClassVar[bool] = True
    host_work: ClassVar[str | None] = None
    from_embeddings: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, float]] = {"alpha": 0}

    @override
    @contextmanager
    def applied(self, model: nn.Module, batch: Batch) -> Iterator[None]:
        mask = perturbed_positions(batch)
        lengths = None if mask is None else mask.sum(1, keepdim=True)
        if batch.pieces is not None and mask is not None:
            lengths = batch.spread(batch.by_token(mask.squeeze(-1))).unsqueeze(-1)

        def noisy(embeddings: Tensor) -> Tensor:
            bound = self.bounds(embeddings, lengths)
            self.largest = bound.mean()
            noise = torch.empty_like(embeddings, dtype=torch.float32).uniform_(-1, 1) * bound
            return embeddings + (noise if mask is None else noise * mask).to(embeddings.dtype)

        with changed(model, noisy):
            yield

    def bounds(self, embeddings: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the bound of the noise for each text, shape (rows, 1, 1), or of each token, (rows, tokens, 1).

        Args:
            embeddings: shape (rows, tokens, hidden).
            lengths: the tokens of each text, in that shape; None: there is no padding.
        """
        rows, tokens, hidden = embeddings.shape
        lengths = embeddings.new_full((rows, 1, 1), tokens) if lengths is None else lengths.clamp(min=1)
        return self.alpha / (lengths.float() * hidden).sqrt()

    @override
    def idle(self, model: nn.Module) -> str | None:
        return without_embeddings(model)

    @override
    def acted(self) -> Mapping[str, float | Tensor]:
        return {} if self.largest is None else {"bound": self.largest}
