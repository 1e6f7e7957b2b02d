"""How much a trained model needs each of its layers, attention heads and feed-forward rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from peftlab.assembly import refer
from peftlab.data.sampling import random_sample
from peftlab.errors import ConfigError
from peftlab.methods.slices import Units, all_layers, is_alone
from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Task
from peftlab.use.examples import data_of

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

By = Literal["fisher", "first_order"]
"""What scores a unit; see `importances`."""


def sample(run: FinishedRun, examples: int, seed: int = 0) -> list[Batch]:
    """Return batches of a random sample of the examples that `run` was trained on, the shortest first.

    Raises:
        UserError: the data cannot be read, or has changed since; or the run's training was private.
    """
    spec = run.spec
    if spec.privacy is not None:
        raise ConfigError(
            f"{run.folder.path}: its training was private, and what is cut out is chosen by training examples, without "
            "noise: what is left would tell of them what no accountant has counted. Leave out drop_layers, prune_heads "
            "and prune_ffn; merge, onnx, openvino and int8 read no training example"
        )
    data = data_of(run, ["train"])
    refer(spec, run.pretrained, data, ["train"])
    members, size = data.splits["train"], spec.data.eval_batch_size
    chosen = random_sample(members.rows, examples, seed)
    chosen = chosen[members.encoded.lengths[chosen].argsort(kind="stable")]
    return [
        spec.task.apart(members.examples, members.encoded, chosen[start : start + size].tolist()).to(run.device)
        for start in range(0, len(chosen), size)
    ]


def importances(
    model: nn.Module, task: Task, batches: Iterable[Batch], every: Sequence[Units], by: By = "fisher"
) -> list[Tensor]:
    """Return a score for each of the units in `every`, one tensor (units,) in fp64 for each of its entries.

    A unit is multiplied by a mask of 1 where it is read; the score is the mean over examples of the squared gradient of
    the loss at the mask (``fisher``: Kwon et al. 2022, equation 6), or of its absolute value (``first_order``: Michel
    et al. 2019, equation 2). Examples have masks of their own, so that one backward pass gives the gradients of all.

    Args:
        model: in evaluation mode.
        task: its task.
        batches: examples with their gold, on the model's device.
        every: the units, see `peftlab.methods.slices.units`.
        by: the kind of score.
    """
    totals = [torch.zeros(units.count, dtype=torch.float64, device=units.out.weight.device) for units in every]
    examples = 0
    for batch in batches:
        masks: dict[int, Tensor] = {}
        with ExitStack() as stack, torch.enable_grad():
            for number, units in enumerate(every):
                stack.enter_context(units.read_through(_Masking(masks, number, units.count)))
            loss = task.losses(task.outputs(model, batch), batch).sum()
            gradients = torch.autograd.grad(loss, [masks[number] for number in range(len(every))])
        for number, of_rows in enumerate(gradients):
            of_examples = of_rows.new_zeros(len(batch.weights), of_rows.shape[1]).index_add(0, batch.rows, of_rows)
            totals[number] += (of_examples.square() if by == "fisher" else of_examples.abs()).double().sum(0)
        examples += len(batch.weights)
    return [total / examples for total in totals]


class _Masking:
    """Multiplies the units of each row by a mask of ones, and keeps it."""

    def __init__(self, masks: dict[int, Tensor], number: int, count: int) -> None:
        self.masks, self.number, self.count = masks, number, count

    def __call__(self, states: Tensor) -> Tensor:
        """Return `states`, (rows, tokens, units x width), with the mask in their graph."""
        mask = self.masks[self.number] = states.new_ones(len(states), self.count).requires_grad_()
        return states * mask.repeat_interleave(states.shape[-1] // self.count, -1).unsqueeze(1)


def least_needed_layers(
    model: nn.Module, task: Task, batches: Sequence[Batch], head: Iterable[str], count: int
) -> list[int]:
    """Return the `count` layers without which the loss on `batches` rises least, in the order in which they go.

    They are chosen one after another, each with the earlier ones left out already.

    Raises:
        ConfigError: there are not so many that can be left out.
    """
    every = all_layers(model, head)
    candidates = [number for number in every if not is_alone(every, number)]
    if count > min(len(candidates), len(every) - 1):
        kept = sorted(every.keys() - candidates)
        alone = f"; layer {kept[0]} has weights that the others lack" if kept else ""
        raise ConfigError(f"drop_layers={count}: the model has {len(every)} layers, and one at least is kept{alone}")
    gone: list[int] = []
    while len(gone) < count:
        losses = {number: mean_loss(model, task, batches, [every[n] for n in (*gone, number)]) for number in candidates}
        gone.append(min(candidates, key=losses.__getitem__))
        candidates.remove(gone[-1])
    return gone


@torch.no_grad()
def mean_loss(
    model: nn.Module, task: Task, batches: Iterable[Batch], without: Sequence[Sequence[nn.Module]] = ()
) -> float:
    """Return the mean loss of the task on `batches`, with some blocks of the model skipped."""
    total = weight = 0.0
    with ExitStack() as stack:
        for block in (block for same in without for block in same):
            stack.callback(block.register_forward_hook(_skipped, with_kwargs=True).remove)
        for batch in batches:
            total += float(task.losses(task.outputs(model, batch), batch).double().sum())
            weight += float(batch.weights.sum())
    return total / weight


def _skipped(block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Any:
    """Return the hidden states that a block got, in the form of its output."""
    states = args[0] if args else kwargs["hidden_states"]
    return states if isinstance(output, Tensor) else (states, *output[1:])
