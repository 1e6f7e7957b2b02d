"""SWAG: models drawn from the Gaussian that the moments of a training's last weights define."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from peftlab.callbacks.swag import MOMENTS
from peftlab.errors import UserError
from peftlab.use.derive import derive
from peftlab.validation import checked

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

SWAG = "swag"
"""What ``peftlab ensemble --how`` calls it."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Drawing:
    """How models are drawn."""

    samples: int = Field(default=20, ge=1, le=1000)
    """How many."""
    scale: float = Field(default=1.0, ge=0)
    """The factor on the covariance; at 0 all models are the mean, that of SWA."""
    seed: int = Field(default=0, ge=0)


@dataclass(config=ConfigDict(arbitrary_types_allowed=True))
class Moments:
    """The Gaussian over the weights of a run; tensors by the names that the run trains them under."""

    snapshots: int
    mean: dict[str, Tensor]
    squares: dict[str, Tensor]
    """Sums of squared deviations from the mean."""
    deviations: dict[str, Tensor]
    """The last deviations, shape (columns, ...)."""

    def draw(self, random: torch.Generator, scale: float = 1.0) -> dict[str, Tensor]:
        """Return weights drawn from it (equation 1 of Maddox et al. 2019), their covariance times `scale`.

        Half of the covariance is the diagonal of the variances, and half D D^T / (K - 1), D being the matrix of the K
        deviations: its coefficients are the same for all tensors.
        """
        columns = len(next(iter(self.deviations.values())))
        coefficients = torch.randn(columns, generator=random) / math.sqrt(columns - 1)
        drawn = {}
        for name, mean in self.mean.items():
            deviation = (self.squares[name] / self.snapshots).sqrt() * torch.randn(mean.shape, generator=random)
            deviation += torch.tensordot(coefficients, self.deviations[name], dims=1)
            drawn[name] = mean + math.sqrt(scale / 2) * deviation
        return drawn


def read_moments(folder: Path) -> Moments:
    """Return the moments that a run's callback has left in its folder.

    Raises:
        UserError: there are none, or they are damaged.
    """
    file = folder / MOMENTS
    if not file.is_file():
        raise UserError(
            f"{folder}: the run kept no moments of its weights ({MOMENTS}), from which SWAG draws models. Train it "
            "with callbacks=[early_stopping,progress,swag], and scheduler=constant, which keeps the weights moving"
        )
    try:
        tensors = load_file(file)
        kinds = ("mean.", "squares.", "deviations.")
        by_kind = [{name[len(kind) :]: t for name, t in tensors.items() if name.startswith(kind)} for kind in kinds]
        moments = Moments(int(tensors["snapshots"]), *by_kind)
        if not moments.mean or any(each.keys() != moments.mean.keys() for each in by_kind):
            raise ValueError("moments are missing")
    except (SafetensorError, OSError, ValueError, LookupError) as error:
        raise UserError(f"{file}: is damaged ({error}). Put back the file that the run left") from error
    return moments


def swag_run(
    runs: Sequence[FinishedRun], options: Mapping[str, Any], *, name: str | None = None, root: Path | None = None
) -> FinishedRun:
    """Return a completed run that averages the answers of models drawn by SWAG around one run.

    Args:
        runs: the run, which was trained with ``callbacks=[swag]``.
        options: those of `Drawing`.
        name: the name of the result.
        root: the folder that its folder is put into.

    Raises:
        UserError: it kept no moments, there are several runs, or there is no such option.
    """
    if len(runs) != 1:
        raise UserError(f"--how swag: draws models around one run, and these are {len(runs)}: name one")
    (run,), drawing = runs, checked(Drawing, dict(options), SWAG)
    moments = read_moments(run.folder.path)

    def fill(model: Any) -> None:
        for member, weights in zip(model.members, draws(moments, drawing), strict=True):
            trained = run.parts.peft.trained(member)
            if weights.keys() != {key for key, tensor in trained.items() if tensor.is_floating_point()}:
                raise UserError(f"{run.folder.path / MOMENTS}: holds the moments of another model")
            for key, weight in weights.items():
                trained[key].data.copy_(weight)

    members = [run.config["peft"]] * drawing.samples
    average = {"_target_": "peftlab.methods.ensemble.Ensemble", "name": SWAG, "how": "average", "members": members}
    how = {"how": SWAG, **vars(drawing)}
    return derive(runs, by="ensemble", how=how, peft=average, fill=fill, name=name, root=root)


def draws(moments: Moments, drawing: Drawing) -> Iterator[dict[str, Tensor]]:
    """Yield the weights of each model, by name, a function of the seed."""
    random = torch.Generator().manual_seed(drawing.seed)
    for _ in range(drawing.samples):
        yield moments.draw(random, drawing.scale)
