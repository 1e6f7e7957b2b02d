"""Every method of Hugging Face's peft library, whose configuration class is looked up by ``peft_type``."""

from __future__ import annotations

import copy
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import peft
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils.other import ModulesToSaveWrapper, get_pattern_key
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from peftlab.errors import ConfigError, did_you_mean
from peftlab.methods.adapter_files import ADAPTER_WEIGHTS
from peftlab.methods.factors import Factors, products, why_not_averaged
from peftlab.methods.feature_maps import check_takes_maps
from peftlab.methods.head import is_of_head
from peftlab.methods.method import BESIDE_THE_FUNCTION, Method, MethodContext, as_json
from peftlab.methods.refused_options import check_values, refusal
from peftlab.methods.targets import Layers, check_layers, target_modules
from peftlab.storage.tensors import save

DROPS_INPUTS = ("QUESTION_ANS",)
"""Task types for which the library wraps the model in a class that drops inputs, namely token types."""
WHERE = (
    *("target_modules", "exclude_modules", "feedforward_modules", "modules_to_save", "layers_to_transform"),
    "layers_pattern",
)
"""Options for the places of an adapter, which the names of its tensors show."""
ABOUT = (
    *("task_type", "peft_type", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping"),
    *("peft_version", "runtime_config"),
)
"""Options that describe the adapter's purpose and the program that wrote it."""
BEGINNING = (
    *("init_weights", "init_lora_weights", "init_ia3_weights", "init_logits_std", "init_r", "init_scale"),
    *("init_theta_d_bound", "init_v_bound", "init_vector_bank_bound", "d_initial", "eva_config"),
)
"""Options for an adapter's initialisation; see `_MORE_THAN_BEGINS`."""
TRAINING = (
    *("lora_dropout", "boft_dropout", "deft_dropout", "frod_dropout", "gralora_dropout", "hira_dropout"),
    *("miss_dropout", "module_dropout", "psoft_dropout", "pvera_dropout", "randlora_dropout", "rank_dropout"),
    *("rank_dropout_scale", "shadow_dropout", "tinylora_dropout", "unilora_dropout", "vblora_dropout", "vera_dropout"),
    *("orth_reg_weight", "auxiliary_loss_weight", "total_step", "tinit", "tfinal", "deltaT", "beta1", "beta2"),
    *("init_warmup", "final_warmup", "mask_interval", "asa_target_subspaces", "asa_importance_beta"),
    *("asa_uncertainty_beta", "asa_schedule_exponent", "progressbar"),
)
"""Options for an adapter's training."""
BESIDE = frozenset({*WHERE, *ABOUT, *BEGINNING, *TRAINING})
"""Options in an adapter's file that do not affect what it computes, or whose effect its tensors show."""
_MORE_THAN_BEGINS = re.compile(r"pissa|olora|corda|loftq|lora_ga|bat$|mini$")
"""Values of initialisation options that do more: they subtract a part from the frozen weights, or choose how the update
is computed."""
INSIDE = "base_model.model."
"""The library's prefix to the names of a model's tensors."""
WAITS = frozenset({"ADAMSS", "FOURIERFT", "FROD", "LOHA", "LOKR", "PSOFT", "SHIRA", "VBLORA", "WAVEFT"})
"""Methods whose layers read values from the device, send some to it, or make tensors of a size that values decide."""
REWRITES = {
    "GLORA": "the library scales and shifts the weights of plain linear layers only",
    "OSF": "it trains a part of them, and keeps the rest in full precision",
}
"""By type, what methods do to the weights of the layers that they adapt beside reading them."""
_DRAWN_FOR_ALL = ("projection_prng_key", "projection_seed", "proj_seed")
"""Seeds of tensors that all adapted layers share, and that depend on which layers are adapted."""


@dataclass(kw_only=True, config=ConfigDict(extra="allow"))
class LibraryMethod(Method):
    """A method of the peft library. All further options are those of the library's configuration class."""

    mergeable: ClassVar[bool] = True
    initialisations: ClassVar[Sequence[bool | str]] = (True, False, "gaussian", "orthogonal", "olora", "pissa", "mica")
    """LoRA's, except those that need data, quantise, or subtract random parts from the frozen weights."""
    decided: ClassVar[Mapping[str, str]] = {}
    """Options of the library that the method itself sets, and where that is said."""

    peft_type: Annotated[str, BESIDE_THE_FUNCTION]
    """The library's name for the method, e.g. ``LORA``."""
    target: Annotated[str | list[str], BESIDE_THE_FUNCTION] = "all_linear"
    """The modules to adapt: a name in `targets.GROUPS`, or names of modules, whole or as a suffix."""
    layers: Annotated[Layers, BESIDE_THE_FUNCTION] = None
    """The repeated blocks to adapt: ``first:N``, ``last:N``, numbers from 0, or None for all."""

    def __post_init__(self) -> None:
        """Check the options against the library's configuration class."""
        check_layers(self.layers)
        if self.peft_type not in PEFT_TYPE_TO_CONFIG_MAPPING:
            types = [str(getattr(name, "value", name)) for name in PEFT_TYPE_TO_CONFIG_MAPPING]
            raise ConfigError(
                f"peft.peft_type = '{self.peft_type}' is no method of peft {peft.__version__}."
                f"{did_you_mean(self.peft_type, types)} Allowed: {', '.join(sorted(types))}"
            )
        parameters = list(inspect.signature(self._config_class).parameters)
        if not {"target_modules", "modules_to_save"} <= set(parameters):
            raise ConfigError(
                f"peft.peft_type = '{self.peft_type}' is of a kind that is not supported: "
                f"{self._config_class.__name__} cannot adapt linear layers and train the head beside them"
            )
        if self.peft_type == "ADALORA" and type(self).after_step is Method.after_step:
            raise ConfigError(
                "peft.peft_type = 'ADALORA': its ranks are pruned after the steps of a training, which "
                f"{type(self).__name__} does not do. Choose peft=adalora"
            )
        for key in self._given:
            if (reason := self.decided.get(key) or refusal(key)) is not None:
                raise ConfigError(f"peft.{key} is no option: {reason}")
            if key == "init_lora_weights" and self.options[key] not in self.initialisations:
                raise ConfigError(
                    f"peft.{key} = {self.options[key]!r}: allowed with peft={self.name} are "
                    f"{', '.join(str(one).lower() for one in self.initialisations)}"
                )
            if key not in parameters:
                raise ConfigError(
                    f"there is no key 'peft.{key}': {self._config_class.__name__} has no such option."
                    f"{did_you_mean(key, parameters)}"
                )
        check_values(self.options, self._config_class)
        try:
            self._config_class(**self.options)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"peft: {self._config_class.__name__} refuses these values: {error}") from error
        except ImportError as error:
            raise ConfigError(f"peft={self.name} cannot be used here: {error}") from error

    @property
    def host_work(self) -> str | None:  # type: ignore[override]  # it depends on an option
        """What the library does on the host."""
        return f"the library's {self.peft_type} waits for the device in its layers" if self.peft_type in WAITS else None

    @property
    def rewrites(self) -> str | None:  # type: ignore[override]  # it depends on an option
        """What the library does to the weights of the layers that it adapts."""
        if (beginning := str(self.options.get("init_lora_weights"))) in ("olora", "pissa"):
            return f"init_lora_weights={beginning} subtracts a part from them"
        return REWRITES.get(self.peft_type)

    @property
    def not_averaged(self) -> str | None:  # type: ignore[override]  # it depends on an option
        """Why no mean can be taken of what the library trains."""
        return why_not_averaged(self.peft_type, self.options)

    @override
    def factors(self, model: nn.Module) -> list[Factors]:
        return products(self.peft_type, self.trained(model))

    @property
    def _given(self) -> dict[str, Any]:
        """The library's options in the configuration: every key that is not a field of this class."""
        return {key: value for key, value in vars(self).items() if key not in self.__dataclass_fields__}

    @property
    def options(self) -> dict[str, Any]:
        """The options for the library's configuration class."""
        return self._given

    @property
    def _config_class(self) -> Any:
        return PEFT_TYPE_TO_CONFIG_MAPPING[self.peft_type]

    def _options_for(self, model: nn.Module, context: MethodContext, targets: list[str]) -> dict[str, Any]:
        """Return the options; those that name modules (IA3's ``feedforward_modules``) select from `targets`.

        Raises:
            ConfigError: an option sets values for named modules (LoRA's ``rank_pattern``), and no such module exists.
        """
        options = self.options
        # the head counts too: an adapter to start from may adapt its modules
        names = [*targets, *(name for name, _ in model.named_modules() if is_of_head(name, context.head))]
        for key, value in options.items():
            if key.endswith("_modules") and value:
                named = set(target_modules(model, value, context.not_adapted, key=key))
                options[key] = [name for name in targets if name in named]
            if key.endswith("_pattern") and isinstance(value, Mapping):
                for pattern in map(str, value):
                    if not any(get_pattern_key([pattern], name) == pattern for name in names):
                        ends = sorted({name.rpartition(".")[2] for name in targets})
                        raise ConfigError(
                            f"peft.{key}: no module that is adapted is called '{pattern}'."
                            f"{did_you_mean(pattern, ends)} There are: {', '.join(ends)}"
                        )
        return options

    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """Wrap `model` in the library's model; the whole head is trained with the adapter.

        Raises:
            ConfigError: the target matches nothing, or the library refuses an option.
        """
        check_takes_maps(model, self.peft_type, self.name)
        targets = target_modules(model, self.target, context.not_adapted, self.layers)
        config = self._config_class(
            task_type=None if context.task_type in DROPS_INPUTS else context.task_type,
            target_modules=targets,
            modules_to_save=list(context.head) or None,
            **self._options_for(model, context, targets),
        )
        wrapped = _wrapped(self, model, config, targets)
        config.base_model_name_or_path = context.model_origin  # the library would name a folder of this machine
        return wrapped

    @override
    def saved(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the adapter's tensors under the library's names for them."""
        tensors: dict[str, Tensor] = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
        return tensors

    @override
    def count(self, model: nn.Module) -> dict[str, int]:
        """Return the numbers of parameters without the library's untrained copy of the head."""
        spare = sum(p.numel() for name, p in model.named_parameters() if ".original_module." in name)
        counts = super().count(model)
        return {**counts, "total_parameters": counts["total_parameters"] - spare}

    def save(self, model: nn.Module, folder: Path, context: MethodContext) -> int:
        """Write the adapter and the head so that ``PeftModel.from_pretrained`` reads them."""
        save(self.saved(model), folder / ADAPTER_WEIGHTS)
        config: Any = copy.copy(model.peft_config["default"])  # type: ignore[index]
        config.inference_mode = True
        for key, value in vars(config).items():
            if isinstance(value, set):  # its order differs between processes
                setattr(config, key, sorted(value))
        config.save_pretrained(folder)
        return (folder / ADAPTER_WEIGHTS).stat().st_size

    @override
    def decides(self, option: str, value: Any) -> bool:
        """Return whether an option affects what an adapter computes; initialisation and regularisation do not."""
        beside = option in BESIDE or not super().decides(option, value)
        return not beside or (option in BEGINNING and bool(_MORE_THAN_BEGINS.match(str(value))))

    @property
    @override
    def defaults(self) -> dict[str, Any]:
        """The default values, including library options that are off, which older versions may lack."""
        parameters = inspect.signature(self._config_class).parameters
        off = {key: parameters[key].default for key in self.options if not parameters[key].default}
        return super().defaults | off

    @override
    def other_options(self, description: Mapping[str, Any], model: nn.Module) -> list[str]:
        own: dict[str, Any] = as_json(model.peft_config["default"].to_dict())  # type: ignore[index, union-attr]
        theirs = {key: value for key, value in {**as_json(self.defaults), **description}.items() if key in own}
        drawn_is_saved = description.get("save_projection", False)
        return [
            f"{'' if key in self.options else '+'}peft.{key}={json.dumps(value)}"
            for key, value in theirs.items()
            if value != own[key] and (self.decides(key, value) or self.decides(key, own[key]))
            if not (key in _DRAWN_FOR_ALL and drawn_is_saved)
        ]

    @override
    def with_plain_head(
        self, model: Any, stored: dict[str, Tensor], description: Mapping[str, Any], context: MethodContext
    ) -> dict[str, Tensor]:
        """Merge the adapters of head layers in `stored` into their weights, since a run trains the whole head.

        Raises:
            ConfigError: they cannot be merged.
        """
        _check_targets(model, stored, description)
        heads = {name: _spare(model, name) for name in context.head}
        layers = [
            f"{head}.{name}".rstrip(".")
            for head, module in heads.items()
            for name, layer in module.named_modules()
            if isinstance(layer, nn.Linear)
        ]
        adapted = {
            layer: names
            for layer in layers
            if (names := [key for key in stored if _adapts(key, layer, model.base_model.prefix)])
        }
        if not adapted:
            return stored
        for layer, names in adapted.items():
            if reason := _not_mergeable(layer, context):
                raise ConfigError(f"adapter: its {names[0]} cannot be merged into {layer}.weight: {reason}")
        config = copy.deepcopy(model.peft_config["default"])
        config.target_modules, config.modules_to_save, config.exclude_modules = set(adapted), None, None
        config.layers_to_transform, config.task_type, config.inference_mode = None, None, False
        if hasattr(config, "feedforward_modules"):  # IA3 scales the inputs of these
            config.feedforward_modules = description.get("feedforward_modules")
        merged = _merged(self, config, heads, adapted, stored)
        taken = {name for names in adapted.values() for name in names}
        return {name: tensor for name, tensor in stored.items() if name not in taken} | merged

    @override
    def unknown_options(self, description: Mapping[str, Any]) -> list[str]:
        """Return the options that this version of the library lacks; a newer one may have written the file."""
        names = inspect.signature(self._config_class).parameters
        return sorted(f"{key}={json.dumps(value)}" for key, value in description.items() if value and key not in names)

    @override
    def kind(self, model: nn.Module) -> str:
        return self.peft_type

    @override
    def merge(self, model: nn.Module) -> PreTrainedModel:
        """Return the merged model; adding the updates rounds them, so the last bits of its outputs may differ."""
        assert isinstance(model, peft.PeftModel)
        if getattr(model.peft_config["default"], "layer_replication", None):
            return super().merge(model)  # copies of a layer share its weights, and each has an update of its own
        plain = model.get_base_model()
        for name, wrapper in list(plain.named_modules()):
            if isinstance(wrapper, ModulesToSaveWrapper):  # most methods fail to unwrap a head with several layers
                parent, _, child = name.rpartition(".")
                setattr(plain.get_submodule(parent), child, wrapper.modules_to_save["default"])
        try:
            return model.merge_and_unload()
        except (NotImplementedError, ValueError):  # how the library reports that a method cannot be merged
            return super().merge(model)


def _wrapped(method: LibraryMethod, model: nn.Module, config: Any, targets: Sequence[str]) -> Any:
    """Return `model` wrapped in the library's model.

    Raises:
        ConfigError: the library refuses an option, or adapts no layers of the class of those called `targets`.
    """
    not_adapted = ConfigError(
        f"peft={method.name}: the library's {method.peft_type} cannot adapt layers of the kind that "
        f"{type(model).__name__} consists of; choose another method, such as lora, ia3 or houlsby, or another model"
    )
    plain = {name: model.get_submodule(name) for name in targets}
    is_transposed = any(isinstance(layer, Conv1D) for layer in plain.values())
    if is_transposed and hasattr(config, "fan_in_fan_out"):
        config.fan_in_fan_out = True  # which the library would set itself, with a warning
    if is_transposed and method.options.get("init_lora_weights") == "olora":  # it would fail in the first pass
        raise not_adapted
    try:
        wrapped = peft.get_peft_model(model, config)
    except (TypeError, ValueError, NotImplementedError) as error:  # checked only as the layers are made
        if is_transposed and Conv1D.__name__ in str(error):
            raise not_adapted from error
        raise ConfigError(f"peft: {type(config).__name__} refuses these values: {error}") from error
    if any(wrapped.get_submodule(f"{INSIDE}{name}") is layer for name, layer in plain.items()):
        raise not_adapted
    parameters = [f".{name}" for name in getattr(wrapped.base_model, "targeted_parameter_names", ())]
    for name in getattr(config, "target_parameters", None) or ():
        if not any(own.endswith(f".{name}") for own in parameters):
            raise ConfigError(
                f"peft.target_parameters: no parameter is called '{name}'. Leave it out, or mend the name"
            )
    return wrapped


def _check_targets(model: Any, stored: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Check which modules an adapter adapts, where the names of its tensors do not show it.

    Raises:
        ConfigError: they are not those adapted in `model`.
    """
    own = sorted(model.targeted_module_names)
    theirs = description.get("target_modules")
    if any(is_of_head(name, own) for name in stored) or not isinstance(theirs, list):
        return
    names = {name.removeprefix(INSIDE) for name, _ in model.named_modules()}
    meant = sorted(name for name in names if any(f".{name}".endswith(f".{end}") for end in theirs))
    if meant != own:
        raise ConfigError(f"adapter: it adapts other modules; set 'peft.target=[{','.join(map(str, theirs))}]'")


def _spare(model: nn.Module, name: str) -> nn.Module:
    """Return the library's untrained copy of the head's module `name`, which is that of the plain model."""
    wrapper = model.get_submodule(f"{INSIDE}{name}")
    assert isinstance(wrapper, ModulesToSaveWrapper)
    return wrapper.original_module


def _adapts(name: str, layer: str, prefix: str) -> bool:
    """Return whether the tensor `name` adapts `layer`; the method's own names begin with `prefix`."""
    return name.startswith((f"{INSIDE}{layer}.{prefix}", f"{INSIDE}{layer}.base_layer."))


def _not_mergeable(layer: str, context: MethodContext) -> str | None:
    """Return why nothing can be merged into a `layer` of the head, or None."""
    if layer == context.output:
        return "its rows are for labels; save it whole, with modules_to_save"
    if f"{layer}.weight" in context.fresh:
        return "the pretrained model lacks it, so its values here are not those that were adapted"
    return None


def _merged(
    method: LibraryMethod,
    config: Any,
    heads: Mapping[str, nn.Module],
    adapted: Mapping[str, list[str]],
    stored: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return the weights and biases of the layers in `adapted` after the library has merged them in a copy."""
    alone = _tree({name: copy.deepcopy(module) for name, module in heads.items()})
    with torch.random.fork_rng(devices=()):
        wrapped = peft.get_peft_model(alone, config)
    saved = method.saved(wrapped)
    own = {name: tensor for name, tensor in saved.items() if is_of_head(name, adapted)}
    names = {name for keys in adapted.values() for name in keys}
    drawn = any(hasattr(config, key) for key in _DRAWN_FOR_ALL)
    shared = drawn or not all(is_of_head(name, heads) for name in saved)
    if shared or own.keys() != names or any(own[name].shape != stored[name].shape for name in names):
        layer, (name, *_) = next(iter(adapted.items()))
        raise ConfigError(
            f"adapter: its {name} cannot be merged into {layer}.weight, which a run trains whole: the update of "
            f"peft={method.name} to a layer does not follow from that layer's tensors alone. Merge the adapter with "
            "the library (merge_and_unload), and start from that model: model=folder"
        )
    for name in names:
        own[name].data.copy_(stored[name])
    plain = wrapped.merge_and_unload()
    return {
        f"{INSIDE}{layer}.{kind}": parameter.detach()
        for layer in adapted
        for kind, parameter in plain.get_submodule(layer).named_parameters()
    }


def _tree(modules: Mapping[str, nn.Module]) -> nn.Module:
    """Return a module that contains `modules` under their dotted names."""
    root = nn.Module()
    for name, module in modules.items():
        *path, last = name.split(".")
        parent = root
        for part in path:
            if part not in dict(parent.named_children()):
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(last, module)
    return root
