"""Options of the peft library's configuration classes that may not be set: what is theirs to do is done elsewhere, or
never is. And values of the others that the library takes without a word, and makes something else of."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from peftlab.errors import ConfigError
from peftlab.methods.method import LARGEST
from peftlab.runs.identity import leaves

VECTORS, LONGEST = ("n_frequency", "theta_d_length"), 2**24
"""Options that are lengths of vectors, and their maximum; others are sizes of matrices, see `LARGEST`."""
SEED = re.compile("seed|prng")
"""Matches the names of options that are seeds."""
FACTORS = ("lora_alpha", "alpha", "psoft_alpha", "randlora_alpha", "scaling")
"""Options that the whole update is multiplied by."""

_REASONS: Mapping[str, Sequence[str]] = {
    "the run sets it; which layers are adapted is peft.target": (
        *("task_type", "target_modules", "modules_to_save", "base_model_name_or_path", "inference_mode"),
        "runtime_config",
    ),
    "the library would import the code that it names": ("auto_mapping", "megatron_config", "megatron_core"),
    "its adapters hold too little to resume training": ("save_only_topk_weights",),
    "the library does not ask it of modules that are named in full, as they are here; the blocks to adapt are "
    "peft.layers": ("layers_to_transform", "layers_pattern"),
    "name the modules to adapt in peft.target": ("exclude_modules",),
    "it belongs to a way to begin (init_lora_weights) that is not allowed here": (
        *("corda_config", "eva_config", "loftq_config", "lora_ga_config"),
    ),
    "it acts on layers that are quantised by GPTQ, which models have none of here": ("use_qalora", "qalora_group_size"),
    "it has an adapter begin within a text, which only the library's own calls of a language model tell it": (
        "alora_invocation_tokens",
    ),
    "it mixes adapters that the library has loaded beside each other, and a run has one": ("arrow_config",),
    "its variational loss is added by a trainer of the library's, which does not train here": ("monteclora_config",),
    "subspaces are pruned by a callback of transformers' trainer, which does not train here": (
        *("use_asa", "asa_target_subspaces", "asa_importance_beta", "asa_uncertainty_beta", "asa_schedule_exponent"),
        *("init_warmup", "final_warmup", "mask_interval"),
    ),
}


def refusal(option: str) -> str | None:
    """Return why an option of the library may not be set; None: it may."""
    return next((reason for reason, options in _REASONS.items() if option in options), None)


def check_values(options: Mapping[str, Any], config_class: type) -> None:
    """Check what the library does not: it takes any text for true, and a share below 0 for none.

    Raises:
        ConfigError: a value is of another kind than the library's class says, too large, or leaves nothing to train.
    """
    kinds = get_type_hints(config_class)
    for key, value in options.items():
        kind, is_number = kinds.get(key), isinstance(value, int | float) and not isinstance(value, bool)
        if kind is bool and not isinstance(value, bool):
            raise ConfigError(f"peft.{key} = {value!r}: should be true or false")
        if kind in (int, float) and (not is_number or (isinstance(value, float) and not math.isfinite(value))):
            raise ConfigError(f"peft.{key} = {value!r}: should be a finite number")
        if key.endswith("dropout") and is_number and not 0 <= value <= 1:
            raise ConfigError(f"peft.{key} = {value}: should be a probability, from 0 to 1")
        if key in FACTORS and is_number and value == 0:
            raise ConfigError(
                f"peft.{key} = {value}: the update is multiplied by it, so that only the head would learn"
            )
    for key, value in leaves(options):
        if type(value) is int and value > (most := LONGEST if key in VECTORS else LARGEST) and not SEED.search(key):
            raise ConfigError(f"peft.{key} = {value}: should be less than or equal to {most}")
