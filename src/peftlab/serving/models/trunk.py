"""One pass of a backbone for the rows of many runs, each computed as its run does."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from peftlab.seams.pytorch import after_hooks, after_pre_hooks, attribute_replaced, mapped
from peftlab.serving.models.edits import Apart, Edits
from peftlab.serving.models.gathered import GATHERED


class ChangedInputsError(Exception):
    """A hook of a run changes what a module takes, so that the run has to compute the module by itself."""

    def __init__(self, run: str, place: str) -> None:
        super().__init__(f"{run}: {place}")
        self.run, self.place = run, place


class Part(NamedTuple):
    """Successive rows of one run."""

    run: str
    rows: slice


class Trunk:
    """An encoder that many runs share, without their heads.

    The rows of a batch are those of one run after another. Every module that a run edits computes all rows at once
    where it can, see `gathered`, and the rows of a run by the run's own module where it must. The head of a run is
    computed by the run's own model, in which `replaying` puts its rows of the result in the place of its encoder.

    Args:
        base: the plain encoder, in evaluation mode; nothing else may use it.
        left_out: names of modules in it that belong to heads, such as ``pooler``.
    """

    def __init__(self, base: nn.Module, left_out: Collection[str]) -> None:
        self.base = base
        self.left_out = frozenset(left_out)
        self.parts: Sequence[Part] = ()
        """The rows of the present pass, or of the part of it that a module divides."""
        self._runs: dict[str, Edits] = {}
        self._places: dict[str, _Place] = {}
        self._outermost = dict(_outermost(base, self.left_out))

    def add(self, run: str, edits: Edits) -> None:
        """Have the rows of `run` computed with `edits` from now on."""
        self._runs[run] = edits
        for name in edits.edits.keys() | edits.hooks.keys():
            if name not in self._places:
                self._places[name] = _Place(self, name)

    def remove(self, run: str) -> None:
        """Forget `run`."""
        self._runs.pop(run, None)
        for name in [*self._places]:
            if not any(name in edits.edits or name in edits.hooks for edits in self._runs.values()):
                self._places.pop(name).close()

    def edits(self, run: str) -> Edits:
        """Return what `run` does otherwise; nothing, if it is unknown."""
        return self._runs.get(run) or Edits()

    def __call__(self, inputs: Mapping[str, Tensor], counts: Mapping[str, int]) -> Recorded:
        """Compute the rows of all runs.

        Args:
            inputs: the arguments of the encoder, (rows, tokens) each.
            counts: the number of rows of each run, in their order.
        """
        parts, start = [], 0
        for run, count in counts.items():
            parts.append(Part(run, slice(start, start + count)))
            start += count
        outputs: dict[str, list[Any]] = {name: [] for name in self._outermost}
        with ExitStack() as stack:
            for name, module in self._outermost.items():
                stack.enter_context(attribute_replaced(module, "forward", _Recording(module.forward, outputs[name])))
            for part in parts:
                if (own := self.edits(part.run).encoder) is not None:
                    after_pre_hooks(own, (), {name: tensor[part.rows] for name, tensor in inputs.items()})
            with self.of(parts):
                self.base(**inputs)
        return Recorded(self, {part.run: part.rows for part in parts}, start, outputs)

    @contextmanager
    def of(self, parts: Sequence[Part]) -> Iterator[None]:
        """Have the rows of `parts` computed in this context."""
        before, self.parts = self.parts, parts
        try:
            yield
        finally:
            self.parts = before

    @contextmanager
    def replaced(self, own: nn.Module, results: Mapping[str, Iterator[Any]]) -> Iterator[None]:
        """Have the outermost modules of `own`, a run's encoder, return `results` in this context."""
        with ExitStack() as stack:
            for name in self._outermost:
                module = own.get_submodule(name)
                parent, _, child = name.rpartition(".")
                if parent:  # one of a list of blocks, whose hooks have acted in the shared pass
                    stack.enter_context(_swapped(own.get_submodule(parent), child, _Returning(results[name])))
                else:
                    stack.enter_context(attribute_replaced(module, "forward", _Returning(results[name]).forward))
            yield


class Recorded:
    """The results of one pass."""

    def __init__(self, trunk: Trunk, rows: Mapping[str, slice], total: int, outputs: Mapping[str, list[Any]]) -> None:
        self._trunk, self._rows, self._total, self._outputs = trunk, rows, total, outputs

    @contextmanager
    def replaying(self, run: str, own: nn.Module) -> Iterator[None]:
        """Have `own`, the encoder of `run`, return the run's rows of the pass in this context, once."""
        part = Part(run, self._rows[run])
        results = {
            name: iter([_cut(output, [part], self._total) for output in outputs])
            for name, outputs in self._outputs.items()
        }
        with self._trunk.replaced(own, results):
            yield


class _Place:
    """The forward of one module of the backbone, for the rows of all runs."""

    def __init__(self, trunk: Trunk, name: str) -> None:
        self.trunk, self.name = trunk, name
        self.module = trunk.base.get_submodule(name)
        self.plain = self.module.forward
        self.module.forward = self

    def close(self) -> None:
        """Give the module its own forward back."""
        del self.module.forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        parts = self.trunk.parts
        runs = {part.run: self.trunk.edits(part.run) for part in parts}
        args, kwargs = _spread((args, kwargs), _total(parts))
        if any(isinstance(edits.edits.get(self.name), Apart) for edits in runs.values()):
            return self._divided(runs, args, kwargs)
        hooked = {run: edits.hooks[self.name] for run, edits in runs.items() if self.name in edits.hooks}
        if not hooked:
            return self._together(runs, args, kwargs)
        total = _total(parts)
        own = {part.run: _cut((args, kwargs), [part], total) for part in parts if part.run in hooked}
        for run, module in hooked.items():
            own_args, own_kwargs = own[run]
            if not _is_same(own[run], after_pre_hooks(module, own_args, own_kwargs)):
                raise ChangedInputsError(run, self.name)
        output = self._together(runs, args, kwargs)
        outputs = {part.run: _cut(output, [part], total) for part in parts}
        for run, module in hooked.items():
            own_args, own_kwargs = own[run]
            outputs[run] = after_hooks(module, own_args, own_kwargs, outputs[run])
        return _combined([outputs[part.run] for part in parts])

    def _together(self, runs: Mapping[str, Edits], args: Any, kwargs: Any) -> Any:
        """Compute all rows at once."""
        edits = {run: edit for run, of_run in runs.items() if (edit := of_run.edits.get(self.name)) is not None}
        if not edits:
            return self.plain(*args, **kwargs)
        _, compute = GATHERED[type(next(iter(edits.values())))]
        by_row = [edits.get(part.run) for part in self.trunk.parts for _ in range(part.rows.stop - part.rows.start)]
        return compute(self.module, *args, by_row, **kwargs)

    def _divided(self, runs: Mapping[str, Edits], args: Any, kwargs: Any) -> Any:
        """Have the runs compute their own rows that do it otherwise, and all others at once."""
        parts = self.trunk.parts
        total = _total(parts)
        results: dict[str, Any] = {}
        rest = []
        for part in parts:
            edit = runs[part.run].edits.get(self.name)
            if isinstance(edit, Apart):
                results[part.run] = edit(*_cut((args, kwargs), [part], total))
            else:
                rest.append(part)
        if rest:
            moved = _moved(rest)
            rest_args, rest_kwargs = _cut((args, kwargs), rest, total)
            with self.trunk.of(moved):
                output = self(*rest_args, **rest_kwargs)
            results |= {part.run: _cut(output, [part], _total(moved)) for part in moved}
        return _combined([results[part.run] for part in parts])


class _Recording:
    """A forward that keeps what it returns."""

    def __init__(self, forward: Any, outputs: list[Any]) -> None:
        self.forward, self.outputs = forward, outputs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self.forward(*args, **kwargs)
        self.outputs.append(output)
        return output


class _Returning(nn.Module):
    """Returns results, one a call, whatever it is called with."""

    def __init__(self, results: Iterator[Any]) -> None:
        super().__init__()
        self.results = results

    def forward(self, *_: Any, **__: Any) -> Any:
        """Return the next result."""
        return next(self.results)


def _outermost(base: nn.Module, left_out: Collection[str], path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that an encoder itself calls, by name, without those of heads."""
    for name, child in base.named_children():
        if isinstance(child, nn.ModuleList):
            yield from _outermost(child, (), f"{path}{name}.")
        elif name not in left_out:
            yield f"{path}{name}", child


def _moved(parts: Sequence[Part]) -> list[Part]:
    """Return `parts` as they lie where only their rows are left."""
    moved, start = [], 0
    for part in parts:
        stop = start + part.rows.stop - part.rows.start
        moved.append(Part(part.run, slice(start, stop)))
        start = stop
    return moved


def _total(parts: Sequence[Part]) -> int:
    return sum(part.rows.stop - part.rows.start for part in parts)


def _cut(value: Any, parts: Sequence[Part], total: int) -> Any:
    """Return the rows of `parts` in nested containers of tensors; what has not `total` rows is everybody's."""
    rows = [part.rows for part in parts]
    if all(one.stop == next_.start for one, next_ in pairwise(rows)):
        rows = [slice(rows[0].start, rows[-1].stop)]

    def cut(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.dim() == 0 or len(leaf) != total:
            return leaf
        return leaf[rows[0]] if len(rows) == 1 else torch.cat([leaf[one] for one in rows])

    return mapped(cut, value)


def _spread(value: Any, total: int) -> Any:
    """Return nested containers in which the only row of a tensor, which is everybody's, is `total` rows."""

    def spread(leaf: Any) -> Any:
        return leaf.expand(total, *leaf.shape[1:]) if isinstance(leaf, Tensor) and leaf.shape[:1] == (1,) else leaf

    return mapped(spread, value)


def _combined(results: Sequence[Any]) -> Any:
    """Return the results of successive rows as one."""

    def combined(*leaves: Any) -> Any:
        if not isinstance(leaves[0], Tensor):
            return leaves[0]
        shapes = {leaf.shape[1:] for leaf in leaves}
        return torch.cat(leaves) if len(shapes) == 1 else None  # such as the weights of attention, which are not read

    return mapped(combined, *results)


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two containers of arguments hold the very same objects."""
    (args, kwargs), (their_args, their_kwargs) = one, other
    return (
        len(args) == len(their_args)
        and all(a is b for a, b in zip(args, their_args, strict=True))
        and kwargs.keys() == their_kwargs.keys()
        and all(kwargs[key] is their_kwargs[key] for key in kwargs)
    )


@contextmanager
def _swapped(parent: nn.Module, name: str, module: nn.Module) -> Iterator[None]:
    before = parent.get_submodule(name)
    setattr(parent, name, module)
    try:
        yield
    finally:
        setattr(parent, name, before)
