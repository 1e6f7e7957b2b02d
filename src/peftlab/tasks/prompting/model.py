"""A language model that answers prompts with scores of labels, for any architecture, loaded and saved like others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, AutoConfig, PretrainedConfig
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.modeling_utils import PreTrainedModel
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.seams.transformers import kind_of
from peftlab.tasks.outputs.deferred_logits import DeferredLogits, deferred_logits
from peftlab.tasks.prompting.verbalizer import Verbalizer

_Language: Any = PreTrainedModel if TYPE_CHECKING else object  # the classes that `on` makes are such models

SETTINGS = "prompting"
"""The entry of a model's configuration that describes its prompts, see `verbalizer.described`."""
HEAD = "verbalizer"
"""The child of the model that makes scores of labels."""

_MADE: dict[type, type[PreTrainedModel]] = {}
"""The classes that have been made, by that of the language model."""


class Prompted(_Language):  # type: ignore[misc]
    """A language model with its pretrained head, and a verbalizer after it.

    Its classes are made for each architecture (`on`) and inherit from its language model. Logits over the vocabulary
    are computed at the places of the answer alone.
    """

    head_modules = (HEAD,)
    """The modules that every method trains, as far as they have parameters."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        size = self.get_output_embeddings().weight.shape[1]
        self.verbalizer = Verbalizer(getattr(config, SETTINGS), size, config.num_labels)

    @override
    def forward(self, asked: Tensor | None = None, **inputs: Any) -> SequenceClassifierOutput:
        """Return the scores of the labels, ``logits`` of shape (examples, labels).

        Args:
            asked: which tokens a word is read at, (rows, tokens): the number, from 1, of its token; 0: none. Rows of an
                example follow each other; those that fill up a batch may be fewer than an example has.
            inputs: those of the language model.
        """
        if asked is None:
            raise ValueError("the inputs say nothing of the place of the answer: task=prompt makes them")
        present = {name: value for name, value in inputs.items() if value is not None}  # wrappers name all they know
        with deferred_logits(self):
            outputs = super().forward(**present)
        logits, verbalizer = outputs.logits, self.verbalizer
        if isinstance(logits, DeferredLogits):
            return SequenceClassifierOutput(logits=verbalizer(_at(logits.hidden, asked, verbalizer), logits.of))
        if verbalizer.kind != "manual":
            raise ConfigError(
                f"task.verbalizer={verbalizer.kind}: it reads hidden states, which a compiled or sharded model does "
                "not show. Set trainer.compile=false and trainer=ddp, or task.verbalizer=manual"
            )
        return SequenceClassifierOutput(logits=verbalizer(_at(logits, asked, verbalizer), lambda own: own))

    @classmethod
    @override
    def from_pretrained(
        cls,
        folder: str | Path,
        *args: Any,
        config: PretrainedConfig | None = None,
        output_loading_info: bool = False,
        **options: Any,
    ) -> Any:
        """Load a model as transformers does, of the class for the architecture that `config`, or `folder`, names."""
        config = config or AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if not issubclass(cls, PreTrainedModel):
            made = cls.on(config)
            return made.from_pretrained(
                folder, *args, config=config, output_loading_info=output_loading_info, **options
            )
        model, report = super().from_pretrained(folder, *args, config=config, output_loading_info=True, **options)
        model.verbalizer.fill(getattr(model.config, SETTINGS))
        if any(key.startswith(f"{HEAD}.") for key in report["missing_keys"]):
            model.begin()
        return (model, report) if output_loading_info else model

    @classmethod
    def from_config(cls, config: PretrainedConfig) -> Any:
        """Return a model with random weights, of the class for the architecture of `config`."""
        model: Any = cls.on(config)(config)
        model.begin()
        return model

    @classmethod
    def on(cls, config: PretrainedConfig) -> type[PreTrainedModel]:
        """Return the class of such models for the architecture of `config`, such as ``LlamaForPrompts``.

        Raises:
            ValueError: transformers has no language model of this architecture.
        """
        mapping = MODEL_FOR_CAUSAL_LM_MAPPING if kind_of(config) == "decoder" else MODEL_FOR_MASKED_LM_MAPPING
        try:
            language_model: type[PreTrainedModel] = mapping[type(config)]
        except KeyError:
            raise ValueError(f"transformers has no language model for {type(config).__name__}") from None
        if language_model not in _MADE:
            name = re.sub(r"(For\w+|LMHeadModel)$", "", language_model.__name__) + "ForPrompts"
            _MADE[language_model] = type(name, (cls, language_model), {"__module__": cls.__module__})
        return _MADE[language_model]

    def begin(self) -> None:
        """Let a verbalizer that is not among the weights begin as its training does."""
        self.verbalizer.begin(self.get_output_embeddings().weight, getattr(self.config, SETTINGS)["words"])


def _at(values: Tensor, asked: Tensor, verbalizer: Any) -> Tensor:
    """Return the `values` of the tokens, (rows, tokens, size), at each place of an answer, (examples, places, size)."""
    places, rows = verbalizer.places, verbalizer.rows
    if missing := -len(asked) % rows:  # of the copies that fill up a batch
        asked = torch.cat([asked, asked[-1:].expand(missing, -1)])
        values = torch.cat([values, values[-1:].expand(missing, -1, -1)])
    before = values.shape[1] - asked.shape[1]  # virtual tokens of a method
    of_rows = asked.view(-1, rows, asked.shape[1])
    index = torch.stack([(of_rows[:, row] == token + 1).int().argmax(-1) for row, token in places], 1) + before
    first = torch.arange(len(of_rows), device=asked.device).unsqueeze(-1) * rows
    return values[first + verbalizer.row_of, index]
