"""Every method of Hugging Face's peft library: its configuration class is found by ``peft_type``."""

from __future__ import annotations

import copy
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import peft
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils.other import ModulesToSaveWrapper
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftlab.errors import ConfigError, did_you_mean
from peftlab.methods.method import ADAPTER_WEIGHTS, Method, MethodContext
from peftlab.methods.targets import Layers, check_layers, target_modules
from peftlab.tensor_files import save

GIVEN_BY_THE_RUN = ("task_type", "target_modules", "modules_to_save", "base_model_name_or_path", "inference_mode")
IMPORTS_CODE = ("auto_mapping", "megatron_config", "megatron_core")
"""Options of the library that name Python modules, which it would import."""
SAVES_LESS = ("save_only_topk_weights",)
"""Options of the library by which an adapter's file holds no more what a training goes on from."""
_BESIDE_THE_FUNCTION = re.compile(
    r"init|dropout|^(task_type|\w+_modules|modules_to_save|base_model_\w+|revision|inference_mode|"
    r"auto_mapping|peft_version|layers_to_transform|layers_pattern|runtime_config|eva_config|total_step)$"
)
"""Options in an adapter's file that do not say what it computes beside what its tensors' names and shapes say."""
_REWRITES_THE_BASE = re.compile(r"\b(pissa|olora|corda|loftq|lora_ga)")
"""Ways to begin that take a part out of the frozen weights."""


@dataclass(kw_only=True, config=ConfigDict(extra="allow"))
class LibraryMethod(Method):
    """A method of the peft library. Options beside these fields are those of the library's configuration class."""

    mergeable: ClassVar[bool] = True
    initialisations: ClassVar[Sequence[bool | str]] = (True, False, "gaussian", "orthogonal", "olora", "pissa", "mica")
    """Of LoRA: not those that look at data or quantise, nor that draw what they take out of the frozen weights."""

    peft_type: str
    """The library's name of the method, e.g. ``LORA``."""
    target: str | list[str] = "all_linear"
    """Which modules are adapted: a name in `targets.GROUPS`, or names of modules, whole or their ends."""
    layers: Layers = None
    """Of which of the repeated blocks: ``first:N``, ``last:N``, numbers from 0, or None for all."""

    def __post_init__(self) -> None:
        """Check the options against the library's configuration class."""
        check_layers(self.layers)
        if self.peft_type not in PEFT_TYPE_TO_CONFIG_MAPPING:
            known = [str(getattr(name, "value", name)) for name in PEFT_TYPE_TO_CONFIG_MAPPING]
            raise ConfigError(
                f"peft.peft_type = '{self.peft_type}' is no method of peft {peft.__version__}."
                f"{did_you_mean(self.peft_type, known)} Allowed: {', '.join(sorted(known))}"
            )
        known = list(inspect.signature(self._config_class).parameters)
        if not {"target_modules", "modules_to_save"} <= set(known):
            raise ConfigError(
                f"peft.peft_type = '{self.peft_type}' is of a kind that is not supported: "
                f"{self._config_class.__name__} cannot adapt linear layers and train the head beside them"
            )
        for key in self.options:
            if key in GIVEN_BY_THE_RUN:
                raise ConfigError(f"peft.{key} is no option: the run sets it; which layers are adapted is peft.target")
            if key in IMPORTS_CODE:
                raise ConfigError(f"peft.{key} is no option: it has the library import what it names")
            if key in SAVES_LESS:
                raise ConfigError(f"peft.{key} is no option: what it saves is too little to go on from")
            if key == "init_lora_weights" and self.options[key] not in self.initialisations:
                raise ConfigError(
                    f"peft.{key} = {self.options[key]!r}: allowed with peft={self.name} are "
                    f"{', '.join(str(one).lower() for one in self.initialisations)}"
                )
            if key not in known:
                raise ConfigError(
                    f"there is no key 'peft.{key}': {self._config_class.__name__} has no such option."
                    f"{did_you_mean(key, known)}"
                )
        try:
            self._config_class(**self.options)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"peft: {self._config_class.__name__} refuses these values: {error}") from error
        except ImportError as error:
            raise ConfigError(f"peft={self.name} cannot be used here: {error}") from error

    @property
    def options(self) -> dict[str, Any]:
        """What goes to the library's configuration class: every key beside the fields of this class."""
        return {key: value for key, value in vars(self).items() if key not in self.__dataclass_fields__}

    @property
    def _config_class(self) -> Any:
        return PEFT_TYPE_TO_CONFIG_MAPPING[self.peft_type]

    def _options_for(self, model: nn.Module, context: MethodContext, targets: list[str]) -> dict[str, Any]:
        """Return the options; those that name modules (IA3's ``feedforward_modules``) say which of `targets`, as
        `target` does."""
        options = self.options
        for key, value in options.items():
            if key.endswith("_modules") and value:
                named = set(target_modules(model, value, context.not_adapted, key=key))
                options[key] = [name for name in targets if name in named]
        return options

    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """Wrap `model` in the library's model; the head is trained whole, beside the adapter.

        Raises:
            ConfigError: the target matches nothing, or the library refuses an option.
        """
        targets = target_modules(model, self.target, context.not_adapted, self.layers)
        config = self._config_class(
            task_type=context.task_type,
            target_modules=targets,
            modules_to_save=list(context.head),
            **self._options_for(model, context, targets),
        )
        try:
            wrapped = peft.get_peft_model(model, config)
        except (TypeError, ValueError, NotImplementedError) as error:  # checked only where the layers are made
            raise ConfigError(f"peft: {self._config_class.__name__} refuses these values: {error}") from error
        config.base_model_name_or_path = context.model_origin  # the library would name a folder of this machine
        return wrapped

    def saved(self, model: nn.Module) -> dict[str, Tensor]:
        """See `Method.saved`; these are the model's own tensors, under the names that the library gives them."""
        tensors: dict[str, Tensor] = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
        return tensors

    def count(self, model: nn.Module) -> dict[str, int]:
        """See `Method.count`; the library's spare copy of the untrained head is no part of the model."""
        spare = sum(p.numel() for name, p in model.named_parameters() if ".original_module." in name)
        counts = super().count(model)
        return {**counts, "total_parameters": counts["total_parameters"] - spare}

    def save(self, model: nn.Module, folder: Path, context: MethodContext) -> int:
        """Write the adapter and the head as the library does, so that ``PeftModel.from_pretrained`` reads them."""
        save(self.saved(model), folder / ADAPTER_WEIGHTS)
        config: Any = copy.copy(model.peft_config["default"])  # type: ignore[index]
        config.inference_mode = True
        for key, value in vars(config).items():
            if isinstance(value, set):  # in no order, and in another one in every process
                setattr(config, key, sorted(value))
        config.save_pretrained(folder)
        return (folder / ADAPTER_WEIGHTS).stat().st_size

    def other_options(self, description: Mapping[str, Any], model: nn.Module) -> list[str]:
        """See `Method.other_options`; how an adapter began, or was regularised, makes it no other."""
        own = _plain(model.peft_config["default"].to_dict())  # type: ignore[index, union-attr]
        drawn_is_saved = description.get("save_projection", False)

        def decides(key: str, value: Any) -> bool:
            if _REWRITES_THE_BASE.search(f"{value} {own[key]}"):
                return True
            return not (_BESIDE_THE_FUNCTION.search(key) or (key.startswith("projection_") and drawn_is_saved))

        return [
            f"{'' if key in self.options else '+'}peft.{key}={json.dumps(value)}"
            for key, value in description.items()
            if key in own and value != own[key] and decides(key, value)
        ]

    def kind(self, model: nn.Module) -> str:
        """See `Method.kind`."""
        return self.peft_type

    def merge(self, model: nn.Module) -> PreTrainedModel:
        """See `Method.merge`; adding an update to a weight rounds it, and so the last bits of the outputs differ."""
        assert isinstance(model, peft.PeftModel)
        plain = model.get_base_model()
        for name, wrapper in list(plain.named_modules()):
            if isinstance(wrapper, ModulesToSaveWrapper):  # which most methods fail to unwrap where a head has layers
                parent, _, child = name.rpartition(".")
                setattr(plain.get_submodule(parent), child, wrapper.modules_to_save["default"])
        try:
            return model.merge_and_unload()
        except (NotImplementedError, ValueError):  # how the library says that a method has no merge
            return super().merge(model)


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of the library as JSON has them."""
    plain: dict[str, Any] = json.loads(
        json.dumps(dict(options), default=lambda value: sorted(value) if isinstance(value, set) else str(value))
    )
    return plain
