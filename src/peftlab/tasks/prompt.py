"""Classification by prompts: a text is put into a template, and a language model's own head says which word follows."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.tasks.batch import Batch
from peftlab.tasks.classification import Classification
from peftlab.tasks.from_examples import Study
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.heads import PROMPTED, Head
from peftlab.tasks.outputs.distributions import Distributions
from peftlab.tasks.outputs.mixing import like
from peftlab.tasks.processor import Processor
from peftlab.tasks.prompting.calibration import FITTED_ON, Calibration, reference_texts
from peftlab.tasks.prompting.choosing import Choice, best, qualities, recorded
from peftlab.tasks.prompting.demonstrations import Shown, check_shown, drawn
from peftlab.tasks.prompting.model import SETTINGS
from peftlab.tasks.prompting.rows import Prompt as FilledPrompt
from peftlab.tasks.prompting.rows import batch_of_prompts, encode_prompts
from peftlab.tasks.prompting.template import read_templates
from peftlab.tasks.prompting.verbalizer import Verbalizer, VerbalizerKind, described
from peftlab.tasks.prompting.words import MultiToken, words_of
from peftlab.tasks.task import Encoded, Random, spec

_AT_ONCE = 32
"""Examples of one forward pass, where templates are chosen and calibrated."""


@spec
class Prompt(Classification):
    """The label whose word a language model finds most probable in a template (Schick and Schütze 2021).

    A decoder predicts the words after the prompt, a masked model those behind the mask. Training minimises the
    cross-entropy over the labels; without training, that is zero-shot or, with demonstrations, few-shot classification.
    Calibration is no part of training: it is fitted anew to the weights before each evaluation, and kept with them.
    """

    template: str | list[str]
    """How a text is written: one or several, each with the places ``{text}`` and ``{answer}``, and ``{pair}`` for the
    second text of a pair."""
    choose: Choice = "none"
    """What is done with several templates, see `Choice`; none: there is one."""
    chosen: int | None = Field(default=None, ge=0)
    """The number, from 0, of the template that was chosen; None: it is open."""
    label_words: dict[str, str | list[str]] | None = None
    """One word or several for each label; None: its name."""
    verbalizer: VerbalizerKind = "manual"
    """What scores a label, see `VerbalizerKind`."""
    multi_token: MultiToken = "mean_logprob"  # noqa: S105
    """How a word of several tokens is scored, see `MultiToken`."""
    calibration: Calibration = "none"
    """The texts over which labels should be equally probable, see `Calibration`."""
    demonstrations: int = Field(default=0, ge=0)
    """The number of training examples that stand before each text, with their labels."""
    shown: list[Shown] | None = None
    """These examples; None: they are drawn by the seed."""
    words: dict[str, list[str]] = field(default_factory=dict, init=False)
    """The words of each label."""
    mask: int | None = field(default=None, init=False)
    """The id of the mask of a masked model; None: the model is a decoder."""

    head: ClassVar[Head] = PROMPTED
    pointers: ClassVar[frozenset[str] | None] = frozenset({"rows", "examples"})
    only_fitted: ClassVar[frozenset[str]] = frozenset({"shift"})
    encoded_by: ClassVar[frozenset[str]] = frozenset({"used", "multi_token", "verbalizer", "shown", "words", "mask"})
    acts_with: ClassVar[Mapping[str, tuple[str, Any]]] = {"multi_token": ("task.verbalizer", "manual")}
    exported: ClassVar[str] = (
        "It gives each label a logit for a text that is written as in training, read at the place of the answer; the "
        "softmax over them gives the probabilities. `peftlab.tasks.prompt` makes its inputs; a pipeline does not."
    )

    def __post_init__(self) -> None:
        """Check templates and the choice among them.

        Raises:
            ConfigError: a template is not well-formed, or there is nothing to choose from.
        """
        super().__post_init__()
        count = len(read_templates(self.template, is_decoder=False))
        if (self.choose == "none") != (count == 1):
            raise ConfigError(
                f"task.choose={self.choose}: task.template has {count}. "
                + ("Write several" if count == 1 else "Set task.choose to cv, mdl or ensemble, or write one")
            )
        if self.chosen is not None and (self.chosen >= count or self.choose not in ("cv", "mdl")):
            raise ConfigError(f"task.chosen={self.chosen}: none of {count} templates is chosen so. Set it to null")
        self._seen: Sequence[Text] = ()
        self._facts: dict[str, Any] = {}

    @property
    def used(self) -> list[str]:
        """The templates in use: all, or the chosen one."""
        listed = [self.template] if isinstance(self.template, str) else self.template
        return listed if self.chosen is None else [listed[self.chosen]]

    @property
    def couples_rows(self) -> bool:  # type: ignore[override]  # it depends on words and templates
        """Whether an example has several rows."""
        return any(len(prompt.rows) > 1 for prompt in self._prompts) or len(self.used) > 1

    @property
    def fits_head(self) -> bool:  # type: ignore[override]  # it depends on an option
        """Whether `fit_head` has something to do: to calibrate."""
        return self.calibration != "none"

    @property
    @override
    def reading_options(self) -> list[str]:
        reads = {
            "demonstrations": self.demonstrations > 0,
            "choose": self.choose in ("cv", "mdl"),
            "calibration": self.calibration in ("domain", "batch"),
        }
        return [f"task.{name}={getattr(self, name)}" for name, does in reads.items() if does]

    @override
    def bind(self, processor: Processor) -> None:
        """Keep the tokenizer.

        Raises:
            ConfigError: the model neither continues texts nor fills masks in them.
        """
        super().bind(processor)
        kind, mask = processor.model_kind, processor.tokenizer.mask_token_id
        if kind == "encoder-decoder" or (kind == "encoder" and mask is None):
            raise ConfigError(
                f"task={self.name}: the model neither continues a text nor fills a mask in it. Choose a decoder, such "
                "as model=smollm2_135m, or a masked language model, such as model=roberta_base"
            )
        self._tokenizer, self.mask = processor.tokenizer, None if kind == "decoder" else mask

    @override
    def learn_labels(self, splits: Mapping[str, Sequence[Text]], declared: Sequence[str] | None) -> None:
        """Set `labels` and their words."""
        super().learn_labels(splits, declared)
        self.words = words_of(self.labels, self.label_words)

    @override
    def head_settings(self) -> dict[str, Any]:
        about = described(self._prompts, self.labels, self.verbalizer, self.fits_head)
        return super().head_settings() | {SETTINGS: about} | ({"use_cache": False} if self.mask is None else {})

    @property
    def _prompts(self) -> list[FilledPrompt]:
        """The templates in use with the words, for the model's tokenizer."""
        about = (self.words, self._tokenizer, self.mask, self.multi_token, self.verbalizer == "manual")
        return [FilledPrompt.of(template, *about) for template in read_templates(self.used, self.mask is None)]

    @override
    def study(self, examples: Sequence[Text], about: Study) -> None:
        """Choose a template, and draw demonstrations.

        Raises:
            ConfigError: a template is to be chosen, and the training examples have no label.
        """
        self._seen, self._about = examples, about
        if self.choose in ("cv", "mdl") and self.chosen is None and about.load_model is not None:
            self._choose(examples, about)
        if self.demonstrations and self.shown is None:
            self.shown = drawn(examples, self.labels, self.demonstrations, about.seed)
            if len(self.shown) < self.demonstrations:
                raise ConfigError(
                    f"task.demonstrations={self.demonstrations}: there are {len(self.shown)} labelled training "
                    "examples. Show fewer, or raise the budget"
                )
        check_shown(self.shown or (), self.demonstrations, self.labels)

    def _choose(self, examples: Sequence[Text], about: Study) -> None:
        """Choose the template that suits the labelled `examples` best, by the model as it begins."""
        assert about.load_model is not None
        labelled = [one for one in examples if one.label is not None]
        if not labelled:
            raise ConfigError(f"task.choose={self.choose}: no training example has a label to choose by")
        listed = list(self.used)
        single = [copy.copy(self) for _ in listed]
        for task, template in zip(single, listed, strict=True):
            task.template, task.choose, task.demonstrations, task.shown = template, "none", 0, None
        with torch.random.fork_rng(devices=[]), torch.no_grad():  # a new head draws random numbers
            model = about.load_model(single[0]).eval()
            heads = [_verbalizer_of(model, task) for task in single]

            def judge(number: int, block: Sequence[Text], rest: Sequence[Text]) -> tuple[np.ndarray, np.ndarray]:
                task, model.verbalizer = single[number], heads[number]
                count = min(self.demonstrations, len(rest))
                task.shown = drawn(rest, self.labels, count, about.seed) if count else None
                if task.fits_head and (count or not heads[number].shift.any()):  # to what is shown, or once
                    task.fit_head(model, ())
                log_p = _scored(task, model, block, about).log_softmax(-1)
                gold = self.targets(block)
                return (log_p.argmax(-1) == gold).numpy(), log_p.gather(-1, gold.unsqueeze(-1))[:, 0].double().numpy()

            found = qualities(judge, len(listed), labelled, self.choose, about.seed)
        self.chosen = best(found, self.choose)
        self._facts["choice"] = recorded(found, listed, len(labelled))

    @torch.no_grad()
    def fit_head(self, model: Any, outputs: Iterable[Any]) -> None:
        """Fit the calibration to the weights of `model`: no label is read.

        The texts are read here, and `outputs` are not needed.
        """
        heads = [module for module in model.modules() if isinstance(module, Verbalizer)]
        for head in heads:
            head.shift.zero_()
        texts = reference_texts(self.calibration, self._seen, self._about.seed)
        shift = _scored(self, model, texts, self._about).log_softmax(-1).logsumexp(0) - math.log(len(texts))
        for head in heads:
            head.shift.copy_(shift)

    @override
    def settled(self) -> dict[str, Any]:
        """Return what has been drawn, chosen, and completed."""
        return {
            **super().settled(),
            **({} if self.shown is None else {"shown": [dict(one) for one in self.shown]}),
            **({} if self.chosen is None else {"chosen": self.chosen}),
        }

    @override
    def labels_read(self, examples: Sequence[Text]) -> int:
        """Return the number of labels that a template was chosen by, or else of those shown."""
        if self.choose in ("cv", "mdl"):
            return sum(one.label is not None for one in examples)
        return len(self.shown or ())

    @override
    def facts(self) -> dict[str, Any]:
        """Return the templates in use, how one was chosen, and what calibrates."""
        calibrated = (
            {"calibration": {"kind": self.calibration, "fitted_on": FITTED_ON[self.calibration]}}
            if self.fits_head
            else {}
        )
        return {"templates": self.used, "shown": len(self.shown or ()), **calibrated, **self._facts}

    @override
    def encode(self, examples: Sequence[Text], processor: Processor, limits: Limits) -> Encoded:
        """Fill the templates as `encode_prompts` does."""
        if limits.long == "split":
            raise ConfigError("data.long=split: a text with one label is asked for as a whole; set data.long=truncate")
        return encode_prompts(examples, self._prompts, self.shown or (), self.words, limits.max_tokens)

    @override
    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return the numbers of truncated texts and tokens, of texts without a token, and demonstrations left out."""
        return super().all_lost(encoded) | {"left out demonstrations": encoded.counts["dropped_demonstrations"]}

    @override
    def lost(self, encoded: Encoded, index: int) -> dict[str, Any]:
        """Return the same of one text, as far as it applies, with ``lost_demonstrations``."""
        dropped = int(encoded.arrays["dropped"][index])
        return super().lost(encoded, index) | ({"lost_demonstrations": dropped} if dropped else {})

    @override
    def collate(
        self, examples: Sequence[Text], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return inputs of shape (rows, tokens), those of each example in turn, and ``labels`` of shape (examples,)."""
        chosen = [examples[i] for i in indices]
        weights = torch.from_numpy(self.weights(examples, encoded, indices))
        return batch_of_prompts(chosen, encoded, indices, self.targets(chosen), weights)

    @override
    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        return super().losses(_of_all(outputs, batch), batch)

    @override
    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        return super().loss(_of_all(outputs, batch), batch)

    @override
    def distributions(self, outputs: Any, batch: Batch) -> Distributions:
        return super().distributions(_of_all(outputs, batch), batch)


@torch.no_grad()
def _scored(task: Prompt, model: Any, examples: Sequence[Text], about: Study) -> Tensor:
    """Return the scores of the labels that `model` gives `examples`, (examples, labels), in their order."""
    encoded = task.encode(examples, about.processor, about.limits)
    order = np.argsort(-encoded.lengths, kind="stable")
    found, device = list[Tensor](), next(model.parameters()).device
    for start in range(0, len(order), _AT_ONCE):
        batch = task.collate(examples, encoded, order[start : start + _AT_ONCE].tolist()).to(device)
        found.append(task.outputs(model, batch).logits.float().cpu())
    return torch.cat(found)[torch.from_numpy(np.argsort(order))]


def _of_all(outputs: Any, batch: Batch) -> Any:
    """Return outputs with a row for each example of `batch`, those without weight that fill it up included.

    Where examples have several rows, fewer examples than rows fill a batch up.
    """
    missing = len(batch.weights) - len(outputs.logits)
    return outputs if not missing else like(outputs, {"logits": F.pad(outputs.logits, (0, 0, 0, missing))})


def _verbalizer_of(model: Any, task: Prompt) -> Verbalizer:
    """Return a verbalizer for `task` on `model`, as training begins with it."""
    about, embeddings = task.head_settings()[SETTINGS], model.get_output_embeddings().weight
    head = Verbalizer(about, embeddings.shape[1], len(task.labels)).to(embeddings.device).eval()
    head.begin(embeddings, about["words"])
    return head
