"""LayerDrop: whole blocks are left out at random in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import field
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.targets import blocks_of
from peftlab.regularizers.regularizer import PassRule, spec
from peftlab.seams.pytorch import attribute_replaced
from peftlab.tasks.batch import Batch

Form = Callable[[Tensor], Any]
"""Makes an output of a block from hidden states."""


@spec
class LayerDrop(PassRule):
    """Leaves out each block of the model in a pass with probability `p` (Fan et al. 2020, section 3.2).

    Hidden states pass through a block that is left out as they are. Evaluations use all blocks, without scaling. Where
    blocks share their weights, as in ALBERT, each of their uses is drawn.
    """

    p: float = Field(default=0.2, ge=0, lt=1)
    """0.2 in the paper; 0.5 if blocks are to be removed from the trained model."""
    blocks: int = field(default=0, init=False)
    """The number of blocks in the last pass."""
    forms: dict[type[nn.Module], Form] = field(default_factory=dict, init=False)
    """What the blocks of a class return, once one has been used."""
    draws: ClassVar[bool] = True
    from_embeddings: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, float]] = {"p": 0}
    host_work: ClassVar[str | None] = "it draws the blocks that are left out"

    @override
    @contextmanager
    def applied(self, model: nn.Module, batch: Batch) -> Iterator[None]:
        self.blocks = 0
        # one draw a pass, as activations that are computed again know nothing of further ones
        random = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        with ExitStack() as stack:
            for block in blocks_of(model):
                stack.enter_context(attribute_replaced(block, "forward", self._dropping(block, random)))
            yield

    def _dropping(self, block: nn.Module, random: torch.Generator) -> Callable[..., Any]:
        """Return a forward of `block` that may return its input, in the form of its output."""
        computed = block.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            self.blocks += 1
            if torch.rand((), generator=random) >= self.p:
                output = computed(*args, **kwargs)
                if type(block) not in self.forms:  # refuses it now, and not in the step that leaves one out
                    self.forms[type(block)] = form_of(output)
                return output
            states: Tensor = args[0] if args else kwargs["hidden_states"]
            if type(block) not in self.forms:
                devices = [states.device] if states.device.type == "cuda" else []
                with torch.no_grad(), torch.random.fork_rng(devices):
                    self.forms[type(block)] = form_of(computed(*args, **kwargs))
            return self.forms[type(block)](states)

        return forward

    @override
    def idle(self, model: nn.Module) -> str | None:
        return None if list(blocks_of(model)) else "the model has no repeated blocks that could be left out"

    @override
    def acted(self) -> Mapping[str, float]:
        return {"blocks": self.blocks}


def form_of(output: Any) -> Form:
    """Return the function that makes an output of the form of `output` from hidden states.

    Raises:
        ConfigError: a block hands on more than hidden states, which the next blocks would lack.
    """
    if isinstance(output, Tensor):
        return lambda states: states
    if isinstance(output, tuple) and not any(isinstance(part, Tensor) for part in output[1:]):
        rest = output[1:]  # without the states, and the graph that they belong to
        return lambda states: (states, *rest)
    raise ConfigError(
        "regularizer.layerdrop: the blocks of this model hand on more than hidden states, so that none can be left "
        "out. Choose another regulariser or model"
    )
