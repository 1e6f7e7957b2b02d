"""The heads that transformers has for tasks, and their names in related libraries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, NamedTuple

from torch import Tensor

from peftlab.seams.transformers import ModelKind
from peftlab.tasks.outputs.deferred_logits import DeferredLogits

Outputs = Literal["text", "token", "span", "vocabulary"]
"""The unit that a head's outputs refer to: a whole text or picture, each token, each token as the start or the end of a
span, or each token over the vocabulary."""


class Head(NamedTuple):
    """A kind of head on a pretrained model."""

    model: str
    """The transformers class that loads a model with this head, or the dotted path of an `OwnModel`."""
    task_type: str | None
    """Its name in the peft library; None where it has none, as for pictures."""
    pipeline: str
    """Its name in transformers' pipelines and on the hub."""
    outputs: Outputs = "text"
    """The unit that its outputs refer to."""
    problem_type: str | None = None
    """Its name in transformers' configurations, which decides how pipelines interpret the logits."""
    size: int | None = None
    """Number of outputs where it is not the number of labels: 1 for a regression, 2 for a span."""
    completed: bool = False
    """Whether layers between the encoder and the vocabulary that the weights lack are made anew, and then trained by
    every method; else a language model without its head is refused."""
    of: ModelKind | None = None
    """The kind of models that have it pretrained; None: it may be put on any."""
    caches: bool = False
    """Whether its model keeps the keys and values of earlier tokens unless told not to; only generation needs them."""
    of_words: bool = False
    """Whether it reads words of the vocabulary, whose numbers the task takes from the tokenizer (`Task.bind`)."""
    of_texts: tuple[str, ...] = ()
    """Names of the logits that refer to whole texts, where those of `outputs` refer to less."""

    @property
    def module(self) -> str:
        """The module of its class."""
        return self.model.rpartition(".")[0] or "transformers"

    @property
    def is_new(self) -> bool:
        """Whether its weights are newly initialised and every method trains them; a language model's are pretrained."""
        return self.outputs != "vocabulary"

    def settings(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return the head's settings in the model's configuration for a task with these labels."""
        if not self.is_new:
            return {"use_cache": False} if self.caches else {}
        settings: dict[str, Any] = {"num_labels": self.size or len(labels), "problem_type": self.problem_type}
        if labels:
            settings["id2label"] = dict(enumerate(labels))
            settings["label2id"] = {label: n for n, label in enumerate(labels)}
        return settings


def model_class(head: Head) -> Any:
    """Return the class that loads a model with this head: of transformers, or an `OwnModel`."""
    return getattr(import_module(head.module), head.model.rpartition(".")[2])


TOKEN_CLASSIFICATION = Head("AutoModelForTokenClassification", "TOKEN_CLS", "token-classification", "token")
SEQUENCE_CLASSIFICATION = Head(
    "AutoModelForSequenceClassification",
    "SEQ_CLS",
    "text-classification",
    problem_type="single_label_classification",
)
IMAGE_CLASSIFICATION = Head(
    "AutoModelForImageClassification", None, "image-classification", problem_type="single_label_classification"
)
MULTI_LABEL_CLASSIFICATION = SEQUENCE_CLASSIFICATION._replace(problem_type="multi_label_classification")
REGRESSION = SEQUENCE_CLASSIFICATION._replace(problem_type="regression", size=1)
QUESTION_ANSWERING = Head("AutoModelForQuestionAnswering", "QUESTION_ANS", "question-answering", outputs="span", size=2)
CAUSAL_LM = Head("AutoModelForCausalLM", "CAUSAL_LM", "text-generation", "vocabulary", of="decoder", caches=True)
SEQ2SEQ_LM = Head(
    "AutoModelForSeq2SeqLM",
    "SEQ_2_SEQ_LM",
    "text2text-generation",
    "vocabulary",
    of="encoder-decoder",
    caches=True,
)
AUDIO_CLASSIFICATION = Head(
    "AutoModelForAudioClassification", None, "audio-classification", problem_type="single_label_classification"
)
# the library's class for SEQ_2_SEQ_LM passes token ids on, which models for speech do not take
SPEECH_SEQ2SEQ = SEQ2SEQ_LM._replace(
    model="AutoModelForSpeechSeq2Seq", task_type=None, pipeline="automatic-speech-recognition"
)
PROMPTED = Head(
    "peftlab.tasks.prompting.model.Prompted",
    None,
    "text-classification",
    problem_type="single_label_classification",
    of_words=True,
)
MASKED_LM = Head("AutoModelForMaskedLM", None, "fill-mask", "vocabulary", completed=True)


def head_in(architecture: str) -> str:
    """Return the kind of head in the name of a transformers class, e.g. ``ForTokenClassification``; or nothing."""
    kind = re.search(r"For\w+$", architecture)
    return kind[0] if kind else ""


def logits_of(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs of a model's heads by name, such as ``logits``, or ``start_logits`` and ``end_logits``.

    They are tensors, or `DeferredLogits`.
    """
    kinds = (Tensor, DeferredLogits)
    return {name: value for name, value in outputs.items() if name.endswith("logits") and isinstance(value, kinds)}
