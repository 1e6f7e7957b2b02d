"""Prompt methods: trained tokens before a text, or keys and values before its own, on a frozen model.

The networks that generate them and the file formats are the peft library's. Their insertion into the model is ours:
the library leaves virtual tokens in a tagger's logits, drops a prefix under gradient checkpointing, and trains no
pooler.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from peft import PrefixEncoder, PrefixTuningConfig, PromptEmbedding, PromptEncoder, PromptEncoderConfig
from peft import PromptTuningConfig as PromptEmbeddingConfig
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.adapter_files import read_tensors
from peftlab.methods.generating import generates, has_decoder, has_windows, is_encoder_decoder
from peftlab.methods.insertion import Insertion
from peftlab.methods.method import BESIDE_THE_FUNCTION, LARGEST, MethodContext, spec
from peftlab.methods.prefix import add_prefix, attention_with_past, heads_of_keys
from peftlab.methods.random_inputs import reads_pictures, reads_sounds
from peftlab.methods.virtual_tokens import (
    add_to_patches,
    add_to_source,
    add_to_text,
    cut,
    patches_of,
    prepend,
    virtual_tokens,
)
from peftlab.storage.tensors import load_into, save

REPARAMETRISATION = "prompt_encoder.safetensors"
"""The file for the network that generates the prompts; the library's own file holds only its output."""


@spec
class Prompts(Insertion):
    """The base of prompt methods; the network is the encoder's child ``prompt_encoder``."""

    num_virtual_tokens: int = Field(gt=0, le=LARGEST)
    """Number of virtual tokens before every text."""

    @property
    @override
    def virtual_tokens(self) -> int:
        return self.num_virtual_tokens

    @override
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """Freeze all but the head, and insert the prompts.

        Raises:
            ConfigError: the model has the head of a masked language model, which the peft library has no name for.
        """
        if context.outputs == "vocabulary" and not generates(model):
            raise ConfigError(
                f"peft={self.name}: does not go together with the head of a masked language model; choose another, "
                "such as lora"
            )
        return super().apply(model, context)

    @abstractmethod
    def library_config(self, model: Any) -> Any:
        """Return the library's configuration without the options that all prompt methods share."""

    def _config(self, model: Any, context: MethodContext) -> Any:
        config = self.library_config(model)
        config.task_type, config.num_virtual_tokens = context.task_type, self.num_virtual_tokens
        config.num_transformer_submodules = 1
        config.modules_to_save = list(context.head) or None
        config.base_model_name_or_path = context.model_origin
        return config

    @override
    def saved(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the prompts and the head under the library's names."""
        encoder = _encoder(model)
        made = virtual_tokens(encoder).detach() if _network(model) else encoder.embedding.weight
        own = {id(parameter) for parameter in encoder.parameters()}
        head = {name: p for name, p in model.named_parameters() if p.requires_grad and id(p) not in own}
        return {"prompt_embeddings": made, **{f"base_model.{name}": parameter for name, parameter in head.items()}}

    @override
    def written(self, model: nn.Module) -> dict[str, Tensor]:
        return self.saved(model) | _network(model)

    def is_read_by_library(self, model: nn.Module) -> bool:
        """Return whether ``PeftModel.from_pretrained`` makes of the adapter what it is here."""
        return True

    def save(self, model: nn.Module, folder: Path, context: MethodContext) -> int:
        """Write the library's files, or our own for what the library would read otherwise; and one for the network."""
        super().save(model, folder, context)
        if network := _network(model):
            save(network, folder / REPARAMETRISATION)
        if self.is_read_by_library(model):
            config = self._config(model, context)
            config.inference_mode = True
            config.save_pretrained(folder)
        return sum(file.stat().st_size for file in folder.glob("*.safetensors"))

    @override
    def load(self, model: nn.Module, folder: Path) -> None:
        super().load(model, folder)
        if network := _network(model):
            load_into(network, folder / REPARAMETRISATION)

    @override
    def adopt(self, model: nn.Module, folder: Path, context: MethodContext) -> list[str]:
        """Start from the adapter in `folder`.

        Raises:
            ConfigError: it does not fit, or holds only the output of a network, as the library saves it.
        """
        network = _network(model)
        if network and not (folder / REPARAMETRISATION).is_file():
            raise ConfigError(
                f"adapter = '{folder}': the network that made its prompts is not there ({REPARAMETRISATION}), and they "
                "cannot be trained further by themselves"
            )
        if network:
            stored = read_tensors(folder, REPARAMETRISATION)
            if _shapes(stored) != _shapes(network):
                raise ConfigError(
                    f"adapter = '{folder}': the network in its {REPARAMETRISATION} differs from that of "
                    f"peft={self.name}; set the options of peft that begin with encoder_ as it was trained with"
                )
        new = super().adopt(model, folder, context)
        if network:
            load_into(network, folder / REPARAMETRISATION)
        return new

    @override
    def kind(self, model: nn.Module) -> str:
        kind: str = self.library_config(model).peft_type.value
        return kind if self.is_read_by_library(model) else self.name


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _encoder(model: Any) -> Any:
    return model.base_model.prompt_encoder


def _network(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of the network; empty where the prompts are trained directly."""
    tensors = dict(_encoder(model).named_parameters())
    return tensors if len(tensors) > 1 else {}


@spec
class InputPrompts(Prompts):
    """Virtual tokens before the input embeddings.

    They are attended to, have the first token type, and take the first positions. A head with outputs for each token
    returns none for them; a classifier that reads the first token reads the first virtual one, as in the library, and
    one on a decoder the last token of the text. Of an encoder-decoder, only the encoder has them. In a picture, they
    stand before the patches, without a position, and the head never sees them (Jia et al. 2022, "VPT-shallow").
    """

    needs_own_rows: ClassVar[str | None] = "it adds its virtual tokens once a row, before the first text"

    @override
    def is_read_by_library(self, model: nn.Module) -> bool:
        """Return whether the library hands the head what it reads here.

        It hides the words from a head for labels on a decoder, which then takes padding for the end of a text, and
        reads no pictures.
        """
        return not reads_pictures(model) and (generates(model) or not has_decoder(model))

    @override
    def insert(self, model: Any, context: MethodContext) -> None:
        if reads_sounds(model):
            raise ConfigError(
                f"peft={self.name}: {type(model).__name__} reads sounds, neither words nor patches that virtual "
                "tokens could stand before; choose another method, such as lora"
            )
        of_pictures = patches_of(model, self.name) if reads_pictures(model) else None
        encoder = self.library_encoder(self._config(model, context), model.get_input_embeddings())
        model.base_model.add_module("prompt_encoder", encoder)
        if of_pictures is not None:
            add_to_patches(of_pictures, encoder)
        elif is_encoder_decoder(model):
            add_to_source(model, encoder)
        elif has_decoder(model):
            add_to_text(model, encoder)
        else:
            model.register_forward_pre_hook(functools.partial(prepend, encoder), with_kwargs=True)
            if context.outputs != "text":
                model.register_forward_hook(functools.partial(cut, self.num_virtual_tokens, context.of_texts))

    @abstractmethod
    def library_encoder(self, config: Any, embeddings: nn.Embedding) -> nn.Module:
        """Return the library's network for a model with these word embeddings."""


@spec
class PromptTuning(InputPrompts):
    """Trains the embeddings of the virtual tokens directly (Lester et al. 2021, section 2)."""

    init: Annotated[Literal["vocabulary", "random"], BESIDE_THE_FUNCTION] = "vocabulary"
    """Their initialisation: random word embeddings from the whole vocabulary, or normal values."""

    @override
    def library_config(self, model: Any) -> PromptEmbeddingConfig:
        kind = {"vocabulary": "SAMPLE_VOCAB", "random": "RANDOM"}[self.init]
        return PromptEmbeddingConfig(prompt_tuning_init=kind, **_sizes(model))

    @override
    def library_encoder(self, config: Any, embeddings: nn.Embedding) -> nn.Module:
        if self.init == "vocabulary" and not isinstance(embeddings, nn.Embedding):
            raise ConfigError(f"peft={self.name}: the model has no words to begin with; set peft.init=random")
        return PromptEmbedding(config, embeddings)


@spec
class PTuning(InputPrompts):
    """Trains a network that generates the virtual tokens (Liu et al. 2021, section 3.2)."""

    encoder_reparameterization_type: Annotated[Literal["MLP", "LSTM"], BESIDE_THE_FUNCTION] = "MLP"
    """The architecture of the network."""
    encoder_hidden_size: Annotated[int | None, BESIDE_THE_FUNCTION] = Field(default=None, gt=0, le=LARGEST)
    """The network's hidden size; None: that of the embeddings."""
    encoder_num_layers: Annotated[int, BESIDE_THE_FUNCTION] = Field(default=2, gt=0, le=100)
    """Number of layers of an LSTM; an MLP has two."""
    encoder_dropout: Annotated[float, BESIDE_THE_FUNCTION] = Field(default=0.0, ge=0, lt=1)
    """Dropout between the layers of an LSTM."""

    @override
    def library_config(self, model: Any) -> PromptEncoderConfig:
        sizes = _sizes(model)
        return PromptEncoderConfig(
            encoder_reparameterization_type=self.encoder_reparameterization_type,
            encoder_hidden_size=self.encoder_hidden_size or sizes["token_dim"],
            encoder_num_layers=self.encoder_num_layers,
            encoder_dropout=self.encoder_dropout,
            **sizes,
        )

    @override
    def library_encoder(self, config: Any, embeddings: nn.Embedding) -> nn.Module:
        return PromptEncoder(config)


@spec
class PrefixTuning(Prompts):
    """Trains keys and values before those of the text in every block (Li and Liang 2021, section 4)."""

    prefix_projection: Annotated[bool, BESIDE_THE_FUNCTION] = False
    """Whether a trained network of two layers generates them (the paper's section 4.3)."""
    encoder_hidden_size: Annotated[int | None, BESIDE_THE_FUNCTION] = Field(default=None, gt=0, le=LARGEST)
    """The network's hidden size; None: that of the model."""
    init_weights: Annotated[Literal["zero"] | None, BESIDE_THE_FUNCTION] = None
    """Initial keys and values; zero: all zero; None: normal values."""

    @override
    def is_read_by_library(self, model: nn.Module) -> bool:
        """Return whether the library gives each block its own prefix, and shows it to every token.

        In encoder-decoders, several blocks would have the same; outside a sliding window, tokens would not see it.
        """
        return not is_encoder_decoder(model) and not has_windows(model)

    @override
    def library_config(self, model: Any) -> PrefixTuningConfig:
        heads, size = heads_of_keys(model)
        return PrefixTuningConfig(
            prefix_projection=self.prefix_projection,
            encoder_hidden_size=self.encoder_hidden_size or model.config.hidden_size,
            init_weights=self.init_weights,
            **(_sizes(model) | {"token_dim": heads * size, "num_attention_heads": heads}),
        )

    @override
    def insert(self, model: Any, context: MethodContext) -> None:
        """Insert the prefix into the attention of every block.

        Raises:
            ConfigError: the model's attention takes no earlier keys and values.
        """
        places = attention_with_past(model, context, self.name)
        config = self._config(model, context)
        config.num_layers = len(places)  # an encoder-decoder's configuration counts the encoder's
        encoder = PrefixEncoder(config)
        model.base_model.add_module("prompt_encoder", encoder)
        made = [LayerOfPrefix(encoder, layer, config.token_dim) for layer in range(len(places))]
        add_prefix(model, list(zip(places, made, strict=True)), self.num_virtual_tokens)


class LayerOfPrefix:
    """The keys and values that the library's network generates for one block, computed alone."""

    def __init__(self, encoder: Any, layer: int, hidden: int) -> None:
        self.encoder, self.hidden = encoder, hidden
        self.rows = slice(2 * layer * hidden, 2 * (layer + 1) * hidden)

    def __call__(self, _: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, each (length, hidden); see `peftlab.methods.prefix.KeysValues`."""
        embedding = self.encoder.embedding.weight
        if self.encoder.prefix_projection:
            first, activation, last = self.encoder.transform
            made = F.linear(activation(first(embedding)), last.weight[self.rows], last.bias[self.rows])
        else:
            made = embedding[:, self.rows]
        return made[:, : self.hidden], made[:, self.hidden :]


def _sizes(model: Any) -> dict[str, int]:
    config = getattr(model.config, "vision_config", model.config)
    return {
        "token_dim": getattr(model.get_input_embeddings(), "embedding_dim", config.hidden_size),
        "num_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
    }
