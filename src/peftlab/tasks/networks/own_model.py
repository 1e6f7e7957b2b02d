"""Models with heads of our own on the encoder of any architecture, loaded and saved like those of transformers."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig, PretrainedConfig
from transformers.modeling_outputs import ModelOutput
from transformers.modeling_utils import PreTrainedModel
from typing_extensions import override

_Mixed: Any = PreTrainedModel if TYPE_CHECKING else object  # the classes that `on` makes are such models

_MADE: dict[tuple[type, type], type[PreTrainedModel]] = {}
"""The classes that have been made, by kind and encoder."""


class OwnModel(_Mixed):  # type: ignore[misc]
    """An encoder and heads for which transformers has no class.

    Its classes are made for each architecture (`on`): they inherit from that architecture's own, so that weights, their
    names, their initialisation, attention and gradient checkpointing are those of transformers. Whatever `build` adds
    is the head: every method trains it, and it is saved and loaded with the rest.
    """

    suffix: ClassVar[str]
    """The kind of model, the end of the classes' names: ``ForIntentsAndSlots``."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        encoder = self._encoder_of(config)
        options = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(encoder).parameters else {}
        self.add_module(self.base_model_prefix, encoder(config, **options))
        self.build(config)
        self.post_init()

    @abstractmethod
    def build(self, config: PretrainedConfig) -> None:
        """Add the modules of the heads; the layer whose rows are the task's labels comes last."""

    @abstractmethod
    def read(self, states: Tensor, attention_mask: Tensor | None) -> ModelOutput:
        """Return the outputs of the heads, of which the names of logits end with ``logits``.

        Args:
            states: the encoder's last hidden states, (rows, tokens, hidden).
            attention_mask: the mask of the tokens, (rows, tokens); None: all are real.
        """

    @override
    def forward(self, attention_mask: Tensor | None = None, **inputs: Any) -> ModelOutput:
        """Return the outputs of the heads for the inputs of the encoder."""
        present = {name: value for name, value in inputs.items() if value is not None}  # wrappers name all they know
        return self.read(self.base_model(attention_mask=attention_mask, **present)[0], attention_mask)

    @classmethod
    @override
    def from_pretrained(
        cls, folder: str | Path, *args: Any, config: PretrainedConfig | None = None, **options: Any
    ) -> Any:
        """Load a model as transformers does, of the class for the architecture that `config`, or `folder`, names."""
        if issubclass(cls, PreTrainedModel):
            return super().from_pretrained(folder, *args, config=config, **options)
        config = config or AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return cls.on(config).from_pretrained(folder, *args, config=config, **options)

    @classmethod
    def from_config(cls, config: PretrainedConfig) -> Any:
        """Return a model with random weights, of the class for the architecture of `config`."""
        return cls.on(config)(config)

    @classmethod
    def on(cls, config: PretrainedConfig) -> type[PreTrainedModel]:
        """Return the class of such models for the architecture of `config`, such as ``BertForIntentsAndSlots``.

        Raises:
            ValueError: transformers has no encoder of this architecture.
        """
        encoder = cls._encoder_of(config)
        if (cls, encoder) not in _MADE:
            architecture = next(one for one in encoder.__mro__[1:] if issubclass(one, PreTrainedModel))
            name = f"{encoder.__name__.removesuffix('Model')}{cls.suffix}"
            _MADE[cls, encoder] = type(name, (cls, architecture), {"__module__": cls.__module__})
        return _MADE[cls, encoder]

    @staticmethod
    def _encoder_of(config: PretrainedConfig) -> type[nn.Module]:
        try:
            encoder: type[nn.Module] = MODEL_MAPPING[type(config)]
        except KeyError:
            raise ValueError(f"transformers has no encoder for {type(config).__name__}") from None
        return encoder
