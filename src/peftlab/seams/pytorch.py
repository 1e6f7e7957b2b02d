"""Privates of PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DispatchMode = TorchDispatchMode
"""The base of what runs the operations of tensors in their place: documented, but in a private module."""


def leaves(tree: Any) -> list[Any]:
    """Return the leaves of nested containers, such as the outputs of models."""
    return tree_leaves(tree)


def mapped(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Return nested containers like `tree` of what `function` returns for its leaves, and those of `others`."""
    return tree_map(function, tree, *others)


def unscale_before_step(optimizer: Optimizer) -> None:
    """Have fp16's gradients unscaled before a step even where a fused `optimizer` could do so within it.

    That would be after the norm of the gradient is taken.
    """
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]


@torch.no_grad()
def norm_of_all(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of `tensors` of one device, a scalar, in one call for all of them."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors))))


@contextmanager
def attribute_replaced(module: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Have a parameter or the forward of `module` be `value` in this context, for the module's own code alone.

    A module's attributes are looked up before its parameters, whose names, and what optimisers and checkpoints see,
    stay as they are.
    """
    own = vars(module)
    missing = object()
    before = own.get(name, missing)
    own[name] = value
    try:
        yield
    finally:
        if before is missing:
            del own[name]
        else:
            own[name] = before


def end_recording_memory(device: torch.device, pool: Any) -> None:
    """Have torch allocate memory as usual after the recording of a CUDA graph has failed.

    Where its end fails too, torch would go on taking allocations for those of the graph.

    Args:
        device: the device of the graph.
        pool: the handle of the memory that the graph allocates from.
    """
    with suppress(RuntimeError):  # it has ended already
        torch._C._cuda_endAllocateToPool(device.index, pool)


def uncompiled(module: nn.Module) -> AbstractContextManager[object]:
    """Return a context in which `module` runs uncompiled, and is compiled afterwards; it costs nothing if it never is.

    Code that runs under a dispatch mode, such as the one that counts arithmetic, is passed over by torch.compile for
    good, unless compiling is off meanwhile.
    """
    return torch.compiler.set_stance("force_eager") if is_compiled(module) else nullcontext()


def is_compiled(module: nn.Module) -> bool:
    """Return whether torch.compile has compiled `module`, or a part of it."""
    return any(part._compiled_call_impl is not None for part in module.modules())


def compile_seconds() -> float:
    """Return the seconds that torch.compile has spent compiling in this process, forward and backward."""
    from torch._dynamo.utils import calculate_time_spent

    return float(calculate_time_spent()["total_wall_time"])


def is_sharded(model: Any) -> bool:
    """Return whether FSDP has divided the weights of `model`; then its module, a slow import, has been imported."""
    fsdp: Any = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(model, fsdp.FSDPModule)


def is_hooked(module: nn.Module) -> bool:
    """Return whether something acts before or after each forward pass of `module`."""
    return bool(module._forward_hooks) or pre_hooked(module)


def pre_hooked(module: nn.Module) -> bool:
    """Return whether something acts before each forward pass of `module`."""
    return bool(module._forward_pre_hooks)


def after_pre_hooks(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the arguments of a forward pass as the hooks before that of `module` leave them."""
    for number, hook in module._forward_pre_hooks.items():
        if number in module._forward_pre_hooks_with_kwargs:
            both: Any = hook(module, args, kwargs)
            args, kwargs = (args, kwargs) if both is None else both
        elif (changed := hook(module, args)) is not None:
            args = changed if isinstance(changed, tuple) else (changed,)
    return args, kwargs


def after_hooks(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    """Return the output of a forward pass as the hooks after that of `module` leave it."""
    for number, hook in module._forward_hooks.items():
        keywords = number in module._forward_hooks_with_kwargs
        changed: Any = hook(module, args, kwargs, output) if keywords else hook(module, args, output)
        output = output if changed is None else changed
    return output
