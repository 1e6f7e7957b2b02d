"""Contrastive fine-tuning of an encoder, and a classifier of its embeddings: classification with few labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from peftlab.errors import ConfigError, DataError
from peftlab.tasks.batch import Batch
from peftlab.tasks.classification import Classification
from peftlab.tasks.inputs.partners import Pool
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.networks.embeddings import EMBEDDING_CLASSIFICATION, products
from peftlab.tasks.networks.fitted_classifiers import Labelled, logistic, prototypes
from peftlab.tasks.networks.heads import Head
from peftlab.tasks.outputs.distributions import Distributions
from peftlab.tasks.task import IGNORED, Encoded, Random, spec

_OUTSIDE = -1e9
"""The similarity of texts of different groups: its share in a softmax is exactly 0."""


@spec
class Contrastive(Classification):
    """One label per text, by a classifier that is fitted to embeddings which contrast the classes.

    The idea is that of SetFit (Tunstall et al. 2022): pairs of texts say more of a few labels than the texts alone, and
    a pretrained encoder of sentences needs little to have texts of a class lie together. In training, each example
    comes with `partners` drawn by seed and epoch: some of its own class, the others evenly of further classes. Its loss
    is over the pairs of this group, so that it does not depend on how batches are divided.

    The classifier is the model's head. It is not trained by gradients, but fitted to the training split whenever the
    model is to be scored, and saved with the adapter: a finished run is an ordinary classifier.
    """

    objective: Literal["supcon", "cosine"] = "supcon"
    """``supcon``: from each text, a softmax over the others of the group, whose targets are those of its class (Khosla
    et al. 2020, equation 2); ``cosine``: the squared error of the cosine of each pair, whose target is 1 within a class
    and 0 between classes, pairs within and between classes weighing the same (as SetFit does)."""
    partners: int = Field(default=7, ge=3, le=255)
    """Texts beside each training example. The group has half as many classes as texts, as far as there are so many, so
    that 7 partners make four classes of two texts each."""
    temperature: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """Divides similarities in the softmax of ``supcon``, and distances in the logits of ``prototype``."""
    classifier: Literal["logistic", "prototype"] = "logistic"
    """``logistic``: multinomial logistic regression; ``prototype``: the nearest mean of a class."""
    inverse_regularization: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Of the logistic regression: the more, the closer it fits. C of scikit-learn."""
    label_smoothing: float = field(default=0.0, init=False)
    """None: what is trained are no probabilities of labels."""
    head: ClassVar[Head] = EMBEDDING_CLASSIFICATION
    draws_inputs: ClassVar[bool] = True
    draws_partners: ClassVar[bool] = True
    couples_rows: ClassVar[bool] = True
    fits_head: ClassVar[bool] = True
    _pool: Pool | None = field(default=None, init=False, repr=False)

    @property
    def acts_with(self) -> Mapping[str, tuple[str, Any]]:  # type: ignore[override]  # it depends on an option
        """What else an option needs: prototypes use the temperature with any objective."""
        of_objective = {"temperature": ("task.objective", "supcon")} if self.classifier == "logistic" else {}
        return of_objective | {"inverse_regularization": ("task.classifier", "logistic")}

    @override
    def settle(self, examples: Sequence[Text], encoded: Encoded) -> None:
        super().settle(examples, encoded)
        if len(present := {one.label for one in examples} - {None}) < 2:
            raise DataError(
                f"task={self.name}: the training examples have {len(present)} label, and it contrasts examples of "
                "different labels. Take more of them, such as budget.per_class=8"
            )

    def collate(
        self, examples: Sequence[Text], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return one row a text; with `random`, each example's group of texts as its rows, and their ``classes``."""
        if random is None:
            return super().collate(examples, encoded, indices)
        groups = [self._group(examples, i, random(i)) for i in indices]
        batch = super().collate(examples, encoded, [member for group in groups for member in group])
        return replace(
            batch,
            targets={"classes": batch.targets["labels"]},
            weights=torch.from_numpy(self.weights(examples, encoded, indices)),
            rows=torch.arange(len(indices)).repeat_interleave(1 + self.partners),
            examples=[examples[i] for i in indices],
        )

    @override
    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the weighted loss of each example: over its group in training, else the classifier's cross-entropy."""
        if "classes" not in batch.targets:
            return super().losses(outputs, batch)
        similarity, classes = products(outputs.embeddings), batch.targets["classes"]
        others = (batch.rows[:, None] == batch.rows[None]).fill_diagonal_(False)
        alike = (classes[:, None] == classes[None]) & (classes != IGNORED) & others
        of = self._softmax if self.objective == "supcon" else self._squared_error
        return of(similarity, alike, others, batch) * batch.weights.to(similarity.dtype)

    @override
    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        return batch.mean(self.losses(outputs, batch)) if "classes" in batch.targets else super().loss(outputs, batch)

    @override
    def distributions(self, outputs: Any, batch: Batch) -> Distributions:
        if "classes" in batch.targets:
            raise ConfigError(
                f"regularizer: task={self.name} trains embeddings, and no distributions over labels, which this "
                "regulariser compares or reshapes. Choose one that only needs the loss, such as fgm or l2_sp"
            )
        return super().distributions(outputs, batch)

    def _softmax(self, similarity: Tensor, alike: Tensor, others: Tensor, batch: Batch) -> Tensor:
        """Return the mean over a group's texts of the cross-entropy that picks out those of its class."""
        log_p = (similarity / self.temperature).masked_fill(~others, _OUTSIDE).log_softmax(-1)
        of_texts = -(log_p * alike).sum(-1) / alike.sum(-1).clamp(min=1)
        return batch.by_example(of_texts) / (1 + self.partners)

    def _squared_error(self, similarity: Tensor, alike: Tensor, others: Tensor, batch: Batch) -> Tensor:
        """Return the mean squared error over pairs within classes, and that over pairs between them, averaged."""
        errors = (similarity - alike.to(similarity.dtype)).square()
        kinds = [alike, others & ~alike]
        means = [
            batch.by_example((errors * kind).sum(-1)) / batch.by_example(kind.sum(-1)).clamp(min=1) for kind in kinds
        ]
        return (means[0] + means[1]) / 2

    @override
    def fit_head(self, model: nn.Module, seen: Iterable[tuple[Any, Batch]]) -> None:
        """Fit the classifier to the embeddings of the training split."""
        parts = [
            (outputs.embeddings, batch.targets["labels"], batch.weights * (1 if (f := batch.factors) is None else f))
            for outputs, batch in seen
        ]
        embeddings, classes, weights = (torch.cat(part).double().cpu().numpy() for part in zip(*parts, strict=True))
        counted = weights > 0
        labelled = Labelled(embeddings[counted], classes[counted].astype(int), weights[counted])
        fitted = (
            logistic(labelled, len(self.labels), self.inverse_regularization)
            if self.classifier == "logistic"
            else prototypes(labelled, len(self.labels), self.temperature)
        )
        for name, parameter in model.named_parameters():
            *_, layer, kind = f".{name}".replace(".modules_to_save.default", "").split(".")
            if layer == "classifier" and parameter.requires_grad:
                parameter.data.copy_(torch.from_numpy(getattr(fitted, kind)))

    def _group(self, examples: Sequence[Text], index: int, random: np.random.Generator) -> list[int]:
        """Return the positions of the texts of a group: the example at `index`, and the partners drawn for it."""
        if self._pool is None or self._pool.examples is not examples:
            self._pool = Pool.of(examples)
        texts = 1 + self.partners
        if (label := examples[index].label) is None:  # it has no weight
            return [index] * texts
        return self._pool.group(index, label, texts, random)
