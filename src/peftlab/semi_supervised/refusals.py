"""What does not go together with unlabelled texts, and why."""

from __future__ import annotations

from typing import Any

from peftlab.errors import ConfigError
from peftlab.models.pooling import OF_ENTITIES
from peftlab.regularizers.rdrop import RDrop
from peftlab.regularizers.regularizer import Term
from peftlab.semi_supervised.method import SemiSupervised
from peftlab.semi_supervised.uda import Uda
from peftlab.semi_supervised.unlabelled import REST


def refuse(semi: SemiSupervised, spec: Any) -> None:
    """Check that the parts of a run can learn from unlabelled texts.

    Args:
        semi: how it learns from them.
        spec: the specification of the run.

    Raises:
        ConfigError: one cannot; says why.
    """
    hardware = spec.trainer
    moving = [
        f"{view}.{name}"
        for view, chosen in (("weak", semi.weak), ("strong", semi.strong))
        for name, each in chosen.items()
        if not each.in_place and each.share > 0
    ]
    for holds, reason in (
        (spec.privacy is not None, "privacy: its accountant does not follow texts without labels. Set privacy=none"),
        (spec.federated is not None, "federated: clients have labelled examples alone. Set federated=none"),
        (
            hardware.sharded,
            f"trainer.strategy={hardware.strategy}: its devices compute every pass together, and each has certain "
            "guesses in steps of its own. Use trainer=ddp",
        ),
        (
            spec.task.draws_partners,
            f"task={spec.task.name}: its head is fitted at validations, and guesses nothing in between. Set "
            "task=classification",
        ),
        (
            spec.task.head.outputs == "token" and moving,
            f"{', '.join(moving)}: a word would come, go or change places, and task={spec.task.name} learns the label "
            f"that is guessed for each word where it is. Leave {'them' if len(moving) > 1 else 'it'} out, "
            f"{' '.join(f'~semi.{each}' for each in moving)}, and take +augment@semi.strong.typo=typo, say",
        ),
        (spec.task.packs, "task.packing lays several examples into a row. Set task.packing=off"),
        (
            semi.unlabelled == REST and spec.budget.half is not None,
            f"budget.half={spec.budget.half}: the texts of the other half are to stay unseen. Name a file of texts, "
            "semi.unlabelled=FILE",
        ),
        (
            semi.hooks and hardware.compile,
            "it mixes texts inside the model, and compiled code calls no hooks: trainer.compile=false",
        ),
        (
            semi.hooks and spec.model.pooling in OF_ENTITIES,
            f"model.pooling={spec.model.pooling} reads a text at its own entities, and texts are mixed. Set "
            "model.pooling=mean, or choose semi=fixmatch",
        ),
    ):
        if holds:
            raise ConfigError(f"semi: {reason}")
    if isinstance(semi, Uda) and semi.tsa is not None and semi.off is None:
        _refuse_other_losses(semi.tsa, spec)


def _refuse_other_losses(tsa: str, spec: Any) -> None:
    """Refuse what takes the place of the task's loss: annealing takes the whole of it from easy examples."""
    for name, each in spec.acting.items():
        if isinstance(each, RDrop) or (isinstance(each, Term) and each.replaces):
            raise ConfigError(
                f"semi.tsa={tsa}: an easy example is left out by taking its whole loss away, and regularizer.{name} "
                "puts something else in the place of a share of it, so that its label would be unlearnt. Set "
                f"semi.tsa=null, or leave {name} out"
            )
