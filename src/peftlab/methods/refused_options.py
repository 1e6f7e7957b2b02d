"""Options of the peft library's configuration classes that may not be set: what is theirs to do is done elsewhere, or
never is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
