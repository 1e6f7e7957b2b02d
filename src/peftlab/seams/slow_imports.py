"""Imports of transformers and peft without what takes most of their time and no answer of a model needs.

Both import torch's compiler, its sharded tensors, accelerate's trainer, SciPy and bitsandbytes, as decorators or for
classes of other uses: four of six seconds of CPU time. A process that only answers leaves them out. What is left out
is imported later by whoever asks for it, as ever.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_OPTIONAL = ("bitsandbytes", "scipy", "sklearn", "pandas", "torchao")
"""Packages that transformers and peft do without where they are not installed."""

_OF_ACCELERATE = ("accelerate.utils", "accelerate.state", "accelerate.big_modeling")
"""The modules of accelerate with what others take of it, the first of which has to be imported before the rest."""


@contextmanager
def left_out() -> Iterator[None]:
    """Around the first import of transformers and peft: leave out what answers do not need.

    Nothing is changed where transformers has been imported before. Models with weights of bitsandbytes need all.
    """
    if "transformers" in sys.modules:
        yield
        return
    import torch

    # a tensor without values has none to draw, and drawing them would import torch's compiler
    torch.nn.init._no_grad_normal_ = _unless_meta(torch.nn.init._no_grad_normal_)
    with ExitStack() as stack:
        for name in _OPTIONAL:
            stack.enter_context(_hidden(name))
        # a transformers of a torch that was built without them has no sharded tensors
        stack.enter_context(_replaced(torch.distributed, "is_available", lambda: False))
        stack.enter_context(_replaced(torch.compiler, "disable", _as_it_is))
        names = {"assume_constant_result": _as_it_is, "allow_in_graph": _as_it_is}
        stack.enter_context(_without_its_own_code("torch._dynamo", names))
        stack.enter_context(_without_its_own_code("accelerate", {"__version__": version("accelerate")}, _of_accelerate))
        yield
        if "peft" in sys.modules:  # which keeps what it is told, and would import it with the first adapter
            from peft import import_utils

            import_utils.is_bnb_available()
            import_utils.is_torchao_available()


@contextmanager
def without_bitsandbytes() -> Iterator[None]:
    """Around the first import of peft: leave out bitsandbytes, which looks at the GPUs when it is imported.

    CUDA then works in no fork of this process. Whoever needs bitsandbytes there imports it, and peft finds it.
    """
    with _hidden("bitsandbytes"):
        yield
    from peft import import_utils

    import_utils.is_bnb_available.cache_clear()
    import_utils.is_bnb_4bit_available.cache_clear()


def _as_it_is(function: Any = None, **_: Any) -> Any:
    """Return a function as it is: the place of a decorator that tells torch's compiler about it."""
    return _as_it_is if function is None else function


def _unless_meta(fill: Callable[..., Any]) -> Callable[..., Any]:
    return lambda tensor, *args, **kwargs: tensor if tensor.is_meta else fill(tensor, *args, **kwargs)


def _of_accelerate(name: str) -> Any:
    """Return what peft and transformers take of accelerate itself: functions for models on several devices."""
    modules = [importlib.import_module(module) for module in _OF_ACCELERATE]
    return next((getattr(module, name) for module in modules if hasattr(module, name)), None) or _missing(
        "accelerate", name
    )


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Have a package count as not installed in this context, if it has not been imported."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # how Python itself says so
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _without_its_own_code(
    name: str, names: Mapping[str, Any], more: Callable[[str], Any] | None = None
) -> Iterator[None]:
    """Have modules of a package imported in this context without the code of the package itself, if it has not run.

    Args:
        name: the package.
        names: what it is to have.
        more: called for other names.
    """
    spec = None if name in sys.modules else find_spec(name)
    if spec is None:
        yield
        return
    package: Any = ModuleType(name)
    package.__path__, package.__spec__ = spec.submodule_search_locations, spec
    package.__getattr__ = more or (lambda key: _missing(name, key))
    vars(package).update(names)
    sys.modules[name] = package
    try:
        yield
    finally:
        del sys.modules[name]
        parent, _, child = name.rpartition(".")
        if parent and vars(sys.modules[parent]).get(child) is package:
            delattr(sys.modules[parent], child)


def _missing(package: str, name: str) -> Any:
    raise AttributeError(f"module '{package}' has no attribute '{name}'")
