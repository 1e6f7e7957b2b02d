"""Prompt methods: trained tokens before those of a text, or keys and values before theirs; the model itself is frozen.

The networks that make them and the files that keep them are the peft library's. How they reach the model is ours: the
library leaves virtual tokens in a tagger's logits, drops a prefix under gradient checkpointing, and trains no pooler.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from peft import PrefixEncoder, PrefixTuningConfig, PromptEmbedding, PromptEncoder, PromptEncoderConfig
from peft import PromptTuningConfig as PromptEmbeddingConfig
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from peftlab.errors import ConfigError
from peftlab.methods.adapter_files import ADAPTER_WEIGHTS, read_tensors
from peftlab.methods.insertion import Insertion
from peftlab.methods.method import BESIDE_THE_FUNCTION, LARGEST, MethodContext, spec
from peftlab.methods.prefix import add_prefix, attention_with_past
from peftlab.storage.tensors import load_into, save
from peftlab.tasks.heads import logits_of

REPARAMETRISATION = "prompt_encoder.safetensors"
"""What a network that makes prompts is trained to; the library's own file keeps only what comes out of it."""


@spec
class Prompts(Insertion):
    """What prompt methods have in common; the network is the encoder's child ``prompt_encoder``."""

    num_virtual_tokens: int = Field(gt=0, le=LARGEST)
    """How many are put before every text."""

    @property
    def virtual_tokens(self) -> int:
        """See `Method.virtual_tokens`."""
        return self.num_virtual_tokens

    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """See `Insertion.apply`.

        Raises:
            ConfigError: also where the model generates: it would meet the virtual tokens anew before every word.
        """
        if context.outputs == "vocabulary":
            raise ConfigError(f"peft={self.name}: does not go together with a task that generates; choose another")
        return super().apply(model, context)

    @abstractmethod
    def library_config(self, model: Any) -> Any:
        """Return the library's configuration, without what all of these methods have in common."""

    def _config(self, model: Any, context: MethodContext) -> Any:
        config = self.library_config(model)
        config.task_type, config.num_virtual_tokens = context.task_type, self.num_virtual_tokens
        config.num_transformer_submodules = 1
        config.modules_to_save = list(context.head) or None
        config.base_model_name_or_path = context.model_origin
        return config

    def saved(self, model: nn.Module) -> dict[str, Tensor]:
        """See `Method.saved`; under the names that the library gives them."""
        encoder = _encoder(model)
        made = _virtual_tokens(encoder).detach() if _network(model) else encoder.embedding.weight
        own = {id(parameter) for parameter in encoder.parameters()}
        head = {name: p for name, p in model.named_parameters() if p.requires_grad and id(p) not in own}
        return {"prompt_embeddings": made, **{f"base_model.{name}": parameter for name, parameter in head.items()}}

    def written(self, model: nn.Module) -> dict[str, Tensor]:
        """See `Method.written`."""
        return self.saved(model) | _network(model)

    def save(self, model: nn.Module, folder: Path, context: MethodContext) -> int:
        """Write what the library writes, so that ``PeftModel.from_pretrained`` reads it, and the network beside it."""
        config = self._config(model, context)
        config.inference_mode = True
        save(self.saved(model), folder / ADAPTER_WEIGHTS)
        if network := _network(model):
            save(network, folder / REPARAMETRISATION)
        config.save_pretrained(folder)
        return sum(file.stat().st_size for file in folder.glob("*.safetensors"))

    def load(self, model: nn.Module, folder: Path) -> None:
        """See `Method.load`."""
        super().load(model, folder)
        if network := _network(model):
            load_into(network, folder / REPARAMETRISATION)

    def adopt(self, model: nn.Module, folder: Path, context: MethodContext) -> list[str]:
        """See `Method.adopt`.

        Raises:
            ConfigError: also where only what a network makes has been saved, and not the network, as the library does.
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
                    f"adapter = '{folder}': the network in its {REPARAMETRISATION} is another than that of "
                    f"peft={self.name}; set the options of peft that begin with encoder_ as it was trained with"
                )
        new = super().adopt(model, folder, context)
        if network:
            load_into(network, folder / REPARAMETRISATION)
        return new

    def kind(self, model: nn.Module) -> str:
        """See `Method.kind`."""
        kind: str = self.library_config(model).peft_type.value
        return kind


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _encoder(model: Any) -> Any:
    return model.base_model.prompt_encoder


def _virtual_tokens(encoder: Any) -> Tensor:
    """Return what `encoder` makes, (tokens, size)."""
    made: Tensor = encoder(torch.arange(encoder.embedding.num_embeddings, device=encoder.embedding.weight.device)[None])
    return made[0]


def _network(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of the network, none where prompts are trained as they are."""
    tensors = dict(_encoder(model).named_parameters())
    return tensors if len(tensors) > 1 else {}


@spec
class InputPrompts(Prompts):
    """Virtual tokens among the embeddings of the input.

    They come first, are attended to, are of the first token type, and take the first positions. A head with outputs
    for each token gives none for them; a classifier that reads the first token reads the first virtual one, as in the
    library.
    """

    def insert(self, model: Any, context: MethodContext) -> None:
        """See `Insertion.insert`."""
        encoder = self.library_encoder(self._config(model, context), model.get_input_embeddings())
        model.base_model.add_module("prompt_encoder", encoder)
        model.register_forward_pre_hook(_prepend, with_kwargs=True)
        if context.outputs != "text":
            model.register_forward_hook(functools.partial(_cut, self.num_virtual_tokens))

    @abstractmethod
    def library_encoder(self, config: Any, embeddings: nn.Embedding) -> nn.Module:
        """Return the library's network for a model with these embeddings of words."""


def _prepend(model: Any, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Put the virtual tokens before `inputs`, the named arguments of a forward pass."""
    inputs = dict(inputs)
    ids = inputs.pop("input_ids", None)
    words = model.get_input_embeddings()(ids) if inputs.get("inputs_embeds") is None else inputs["inputs_embeds"]
    prompts = _virtual_tokens(_encoder(model)).to(words.dtype)
    count = len(prompts)
    inputs["inputs_embeds"] = torch.cat([prompts.expand(len(words), -1, -1), words], dim=1)
    for name, fill in (("attention_mask", 1), ("token_type_ids", 0)):
        if inputs.get(name) is not None:
            inputs[name] = F.pad(inputs[name], (count, 0), value=fill)
    return args, inputs


def _cut(count: int, _: nn.Module, __: Any, output: Any) -> Any:
    for name, logits in logits_of(output).items():
        output[name] = logits[:, count:]
    return output


@spec
class PromptTuning(InputPrompts):
    """The virtual tokens' embeddings themselves are trained (Lester et al. 2021, section 2)."""

    init: Annotated[Literal["vocabulary", "random"], BESIDE_THE_FUNCTION] = "vocabulary"
    """Whether they begin as embeddings of words, drawn from the whole vocabulary, or as normal numbers."""

    def library_config(self, model: Any) -> PromptEmbeddingConfig:
        """See `Prompts.library_config`."""
        kind = {"vocabulary": "SAMPLE_VOCAB", "random": "RANDOM"}[self.init]
        return PromptEmbeddingConfig(prompt_tuning_init=kind, **_sizes(model))

    def library_encoder(self, config: Any, embeddings: nn.Embedding) -> nn.Module:
        """See `InputPrompts.library_encoder`."""
        return PromptEmbedding(config, embeddings)


@spec
class PTuning(InputPrompts):
    """The virtual tokens come out of a network, which is trained (Liu et al. 2021, section 3.2)."""

    encoder_reparameterization_type: Annotated[Literal["MLP", "LSTM"], BESIDE_THE_FUNCTION] = "MLP"
    """The network."""
    encoder_hidden_size: Annotated[int | None, BESIDE_THE_FUNCTION] = Field(default=None, gt=0, le=LARGEST)
    """Of the network; None: that of the embeddings."""
    encoder_num_layers: Annotated[int, BESIDE_THE_FUNCTION] = Field(default=2, gt=0, le=100)
    """Of an LSTM; an MLP has two."""
    encoder_dropout: Annotated[float, BESIDE_THE_FUNCTION] = Field(default=0.0, ge=0, lt=1)
    """Between the layers of an LSTM."""

    def library_config(self, model: Any) -> PromptEncoderConfig:
        """See `Prompts.library_config`."""
        sizes = _sizes(model)
        return PromptEncoderConfig(
            encoder_reparameterization_type=self.encoder_reparameterization_type,
            encoder_hidden_size=self.encoder_hidden_size or sizes["token_dim"],
            encoder_num_layers=self.encoder_num_layers,
            encoder_dropout=self.encoder_dropout,
            **sizes,
        )

    def library_encoder(self, config: Any, embeddings: nn.Embedding) -> nn.Module:
        """See `InputPrompts.library_encoder`."""
        return PromptEncoder(config)


@spec
class PrefixTuning(Prompts):
    """Keys and values before those of the text, in the attention of every block (Li and Liang 2021, section 4)."""

    prefix_projection: Annotated[bool, BESIDE_THE_FUNCTION] = False
    """Whether they come out of a network of two layers, which is trained in their place (the paper's section 4.3)."""
    encoder_hidden_size: Annotated[int | None, BESIDE_THE_FUNCTION] = Field(default=None, gt=0, le=LARGEST)
    """Of the network; None: that of the model."""
    init_weights: Annotated[Literal["zero"] | None, BESIDE_THE_FUNCTION] = None
    """zero: keys and values begin as zero; None: as normal numbers."""

    def library_config(self, model: Any) -> PrefixTuningConfig:
        """See `Prompts.library_config`."""
        hidden = model.config.hidden_size
        return PrefixTuningConfig(
            prefix_projection=self.prefix_projection,
            encoder_hidden_size=self.encoder_hidden_size or hidden,
            init_weights=self.init_weights,
            **(_sizes(model) | {"token_dim": hidden}),
        )

    def insert(self, model: Any, context: MethodContext) -> None:
        """See `Insertion.insert`.

        Raises:
            ConfigError: the model's attention takes no earlier keys and values.
        """
        places = attention_with_past(model, context, self.name)
        config = self._config(model, context)
        encoder = PrefixEncoder(config)
        model.base_model.add_module("prompt_encoder", encoder)
        made = [LayerOfPrefix(encoder, layer, config.token_dim) for layer in range(len(places))]
        add_prefix(model.base_model, list(zip(places, made, strict=True)), self.num_virtual_tokens)


class LayerOfPrefix:
    """The keys and values that the library's network makes for one block; no more of it is computed."""

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
    config = model.config
    return {
        "token_dim": model.get_input_embeddings().embedding_dim,
        "num_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
    }
