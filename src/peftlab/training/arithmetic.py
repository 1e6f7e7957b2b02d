"""How many floating-point operations passes through a model take."""

from __future__ import annotations

from typing import Any

from torch.utils.flop_counter import flop_registry

from peftlab.seams.pytorch import DispatchMode


class Arithmetic(DispatchMode):
    """Counts floating-point operations for as long as it is entered, by the formulas of torch's own counter.

    `torch.utils.flop_counter.FlopCounterMode` comes to the same number, at more than twice the time: it asks every
    operation anew whether it is made of others. And it tells modules apart by hooks, which keep the graph of every
    pass alive: a forward pass that runs out of memory would keep its activations, and then not even its pieces would
    fit.
    """

    supports_higher_order_operators = True
    """They are run as they are, and count for nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0
        self._whole: set[Any] = set()
        """The operations that are not made of others."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and add what it takes."""
        options = kwargs or {}
        if not hasattr(func, "decompose"):  # of a higher order
            return func(*args, **options)
        if func not in self._whole:
            with self:
                result = func.decompose(*args, **options)
            if result is not NotImplemented:
                return result
            self._whole.add(func)
        result = func(*args, **options)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.operations += formula(*args, **options, out_val=result)
        return result
