"""Which words do the virtual tokens of a prompt come near?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from peftlab.methods.combined import Combined
from peftlab.methods.method import Method
from peftlab.methods.prompts import InputPrompts
from peftlab.methods.virtual_tokens import virtual_tokens
from peftlab.use.differing.passes import plain_model


@dataclass(frozen=True)
class VirtualToken:
    """A trained embedding before the text."""

    nearest: str
    """The token of the vocabulary whose embedding has the largest cosine with it."""
    cosine: float
    norm: float
    """Its norm, over the mean norm of the vocabulary's embeddings."""


@torch.inference_mode()
def read_as_words(model: nn.Module, method: Method, tokenizer: PreTrainedTokenizerBase) -> list[VirtualToken]:
    """Return what the virtual tokens of a method come near; empty if it has none among the input embeddings."""
    methods = method.methods if isinstance(method, Combined) else (method,)
    if not any(isinstance(one, InputPrompts) for one in methods):
        return []
    plain = plain_model(model)
    words = plain.get_input_embeddings().weight.float()
    prompts = virtual_tokens(plain.base_model.prompt_encoder).float()
    norms = words.norm(dim=1)
    cosines = prompts @ words.T / (prompts.norm(dim=1)[:, None] * norms).clamp(min=1e-12)
    best, places = cosines.max(1)
    names = tokenizer.convert_ids_to_tokens(places.tolist())
    sizes = prompts.norm(dim=1) / norms.mean()
    return [VirtualToken(*each) for each in zip(names, best.tolist(), sizes.tolist(), strict=True)]
