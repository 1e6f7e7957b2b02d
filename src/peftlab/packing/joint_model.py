"""One forward pass for several adapted models: frozen weights meet the rows of all, trained ones those of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from peftlab.models.positions import positions, reserved
from peftlab.packing.joint_modules import JOINT, Forward
from peftlab.packing.rows import NeverJoinableError, Rows
from peftlab.packing.run_context import RandomStates
from peftlab.seams.pytorch import attribute_replaced

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
LEAST_SHARED = 0.5
"""The least share of a model's parameters that must be used by all for a joint pass to pay."""

_DRAWING = (torch.bernoulli, torch.rand, torch.rand_like, torch.randn, torch.randn_like, torch.randperm)
"""Functions whose random numbers belong to no run."""


class JointModel:
    """Several models that differ in trained weights, random numbers and little else, run as one.

    The first model runs on the rows of all. Modules of `JOINT` multiply each model's rows by its own weights; every
    other module that is trained, or that differs, is called for each model apart, as is dropout, which draws from the
    generator of each run as it would alone. So the outputs are those of separate passes up to rounding.

    Args:
        models: their frozen weights share memory.
        randoms: by model, the random states that its dropout draws from, and leaves.

    Raises:
        NotJoinableError: the models differ too much.
    """

    def __init__(self, models: Sequence[nn.Module], randoms: Sequence[RandomStates]) -> None:
        self.models, self.randoms = models, randoms
        self.rows = Rows([1] * len(models), None)
        """The layout of the present pass."""
        self._watching: _Functions | None = _Functions(self)
        """Calls functions that draw random numbers apart; None: there are none."""
        self._called: set[nn.Module] = set()
        self._forwards: dict[nn.Module, Forward] = {}
        self._own: set[int] = set()
        """The ids of the parameters in modules that are called apart."""
        self._plan(models)
        everywhere = list(models[0].parameters())
        shared = sum(p.numel() for p in everywhere if not p.requires_grad and id(p) not in self._own)
        if shared < LEAST_SHARED * sum(p.numel() for p in everywhere):
            raise NeverJoinableError("they share too few of their weights")
        config: Any = getattr(models[0], "config", None)
        numbers = config.to_dict() if config is not None else {}
        self._padding = numbers.get("pad_token_id") or 0
        most = positions(models[0])
        self._limit = None if most is None else most - reserved(models[0])
        self._sizes = {size for parameter in everywhere for size in parameter.shape}
        self._sizes |= {number for number in numbers.values() if isinstance(number, int)}
        hidden, heads = numbers.get("hidden_size"), numbers.get("num_attention_heads")
        if isinstance(hidden, int) and isinstance(heads, int) and heads:  # models of pictures have lists
            self._sizes.add(hidden // heads)

    def __call__(self, inputs: Sequence[Mapping[str, Tensor]]) -> list[Any]:
        """Return each model's outputs for its own inputs, in transformers' form.

        Raises:
            NotJoinableError: the inputs do not fit together, or, in the first pass, the models use trained weights
                outside of the modules that hold them.
        """
        self.rows = Rows.of(inputs, self._sizes, self._limit)
        joint = self.rows.joined(inputs, self._padding)
        with self._replaced():
            outputs = self.models[0](**joint) if self._watching is None else self._first(joint)
        return [self.rows.own(outputs, number) for number in range(len(self.models))]

    def _first(self, joint: Mapping[str, Tensor]) -> Any:
        """Run the first passes: see what is called, and whether random numbers are drawn outside of dropout modules."""
        assert self._watching is not None
        with self._watching:
            outputs = self.models[0](**joint)
        trained = {module for module in self._forwards if any(p.requires_grad for p in module.parameters())}
        if trained - self._called:
            raise NeverJoinableError("its trained weights are used outside of the modules that hold them")
        if not self._watching.drew:
            self._watching = None
        return outputs

    def apart(self, calls: Sequence[Callable[..., Any]], args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Call each model's function on its own rows, with its own random numbers."""
        return self.rows.apart([self._drawing(*both) for both in zip(self.randoms, calls, strict=True)], args, kwargs)

    def dropped(self, calls: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
        """Return `x` with elements dropped as each model's function does with its own rows of it."""
        with torch.no_grad():
            ones, masks = torch.ones_like(x), []
            for number, (own, call) in enumerate(zip(self.randoms, calls, strict=True)):
                own.put_torch()
                masks.append(call(self.rows.cut(ones, number)))
                own.keep_torch()
        return x * self.rows.together(masks)

    def _drawing(self, own: RandomStates, call: Callable[..., Any]) -> Callable[..., Any]:
        def drawn(*args: Any, **kwargs: Any) -> Any:
            own.put_torch()
            try:
                return call(*args, **kwargs)
            finally:
                own.keep_torch()

        return drawn

    @contextmanager
    def _replaced(self) -> Iterator[None]:
        with ExitStack() as stack:
            for module, forward in self._forwards.items():
                noted = partial(self._noted, module, forward) if self._watching is not None else forward
                stack.enter_context(attribute_replaced(module, "forward", noted))
            yield

    def _noted(self, module: nn.Module, forward: Forward, *args: Any, **kwargs: Any) -> Any:
        self._called.add(module)
        return forward(*args, **kwargs)

    def _plan(self, modules: Sequence[nn.Module]) -> None:
        """Decide how the matching `modules` of all models run, and those below them."""
        lead = modules[0]
        if isinstance(lead, DROPOUTS) and _are_alike(modules):
            if lead.p:
                calls = [module.forward for module in modules]
                self._forwards[lead] = lambda x: self.dropped(calls, x) if lead.training else x
            return
        joint = _joint(modules)
        if joint is not None:
            self._forwards[lead] = joint(modules)
            if isinstance(lead, BaseTunerLayer):
                return
        elif not _are_alike(modules) or _trains_itself(lead) or _is_unknown_adapter(lead):
            self._call_apart(modules)
            return
        for name, _ in lead.named_children():
            self._plan([module.get_submodule(name) for module in modules])

    def _call_apart(self, modules: Sequence[nn.Module]) -> None:
        calls = [module.forward for module in modules]
        self._forwards[modules[0]] = lambda *args, **kwargs: self.apart(calls, args, kwargs)
        self._own |= {id(parameter) for parameter in modules[0].parameters()}


class _Functions(TorchFunctionMode):
    """Calls functions that draw random numbers outside of dropout modules, such as that of attention, apart."""

    def __init__(self, joint: JointModel) -> None:
        super().__init__()
        self.joint = joint
        self.drew = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWING:
            raise NeverJoinableError(f"torch.{func.__name__} draws for all")
        if _draws(func, args, kwargs) and len(args[0]) == self.joint.rows.runs * self.joint.rows.most:
            self.drew = True
            if func is F.dropout:
                options = {**dict(zip(("p", "training"), args[1:3], strict=False)), **kwargs, "inplace": False}
                return self.joint.dropped([partial(func, **options)] * self.joint.rows.runs, args[0])
            return self.joint.apart([func] * self.joint.rows.runs, args, kwargs)
        return func(*args, **kwargs)


def _draws(func: Any, args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Return whether a call draws random numbers for the rows of its first argument."""
    if func is F.dropout:
        names = {**dict(zip(("p", "training"), args[1:], strict=False)), **kwargs}
        return bool(names.get("training", True) and names.get("p", 0.5))
    if func is F.scaled_dot_product_attention:
        return bool(args[4] if len(args) > 4 else kwargs.get("dropout_p"))
    return False


def _joint(modules: Sequence[Any]) -> Callable[[Any], Forward] | None:
    """Return what runs the trained `modules` as one, if there is anything."""
    lead = modules[0]
    if any(type(module) is not type(lead) for module in modules) or type(lead) not in JOINT:
        return None
    if isinstance(lead, BaseTunerLayer):
        base = [module.get_base_layer() for module in modules]
        plain = all(len(module.active_adapters) == 1 and not module.disable_adapters for module in modules)
        plain = plain and len({getattr(module, "is_feedforward", None) for module in modules}) == 1
        return JOINT[type(lead)] if plain and not _trains_itself(base[0]) and _have_same(base, trained=False) else None
    if not _trains_itself(lead) or not _are_alike(modules):
        return None
    return JOINT[type(lead)]


def _trains_itself(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters(recurse=False))


def _is_unknown_adapter(module: Any) -> bool:
    """Return whether the code of `module`, a layer of the peft library, may use weights of the modules below it."""
    if not isinstance(module, BaseTunerLayer):
        return False
    return not (type(module) is LoraLinear and not module.lora_variant)


def _are_alike(modules: Sequence[nn.Module]) -> bool:
    """Return whether modules are of one class, with the same options, frozen weights and children."""
    lead = modules[0]
    names = [name for name, _ in lead.named_children()]
    return (
        all(type(module) is type(lead) for module in modules)
        and all([name for name, _ in module.named_children()] == names for module in modules)
        and all(options_of(module) == options_of(lead) for module in modules)
        and _have_same(modules)
    )


def options_of(module: nn.Module) -> dict[str, Any]:
    """Return the plain attributes of a module."""
    return {name: value for name, value in vars(module).items() if not name.startswith("_") and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple | set):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return value is None or isinstance(value, bool | int | float | str)


def _have_same(modules: Sequence[nn.Module], trained: bool = True) -> bool:
    """Return whether frozen weights are the same memory, and trained ones, if there may be any, of the same shape."""
    for parameters in zip(*(module.named_parameters(recurse=False) for module in modules), strict=False):
        (name, lead), *others = parameters
        for other_name, other in others:
            if (other_name, other.shape, other.requires_grad) != (name, lead.shape, lead.requires_grad):
                return False
            if not lead.requires_grad and lead.data_ptr() != other.data_ptr():
                return False
            if lead.requires_grad and not trained:
                return False
    return True
