"""The perturbations by name: which of them suit a run, and how strong they are."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np

from peftlab.composing.compose import conf_dir
from peftlab.data.augmentation.augmentation import Augmentation, Material
from peftlab.data.augmentation.neighbours import nearest
from peftlab.data.augmentation.typo import Typo
from peftlab.data.augmentation.wordnet import FUNCTION_WORDS, INDEX, synonyms
from peftlab.errors import UserError, did_you_mean
from peftlab.reading import plain_yaml
from peftlab.specs import build
from peftlab.tasks.inputs.editable import EditableText
from peftlab.tasks.task import Task
from peftlab.use.robustness.greedy import Attacked, Greedy, Make, Substitutes, run_together
from peftlab.use.robustness.pgd import Pgd, check_embeddings
from peftlab.use.robustness.victim import Judged, Victim

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

log = logging.getLogger("peftlab")

SLICES = ("typo", "case", "synonym", "mention")
"""The augmentations whose edits a finished run is tested with by default."""

ATTACKS = ("greedy", "pgd")
"""The perturbations that look for the worst answer."""

Source = Literal["typo", "synonym", "neighbour"]
"""Where the substitutes of a word come from: typing errors in it, WordNet's synonyms, or the nearest words in the
model's input embeddings."""

_LOGGED_EVERY = 50
"""Examples of an attack between lines of the log."""

_TYPOS, _SENSES, _NEIGHBOURS = 5, 10, 25
"""How many typing errors of a word the greedy attack tries, the synonyms of how many of its senses, and how many of the
nearest words."""


@dataclass(frozen=True)
class Settings:
    """How strong the perturbations are."""

    seed: int = 0
    """Of the sample of examples, and of what is random in a perturbation."""
    strength: float = 0.1
    """The share of an example's words, or mentions, that a slice changes, if it does not edit the text as a whole; at
    least one."""
    pgd: Pgd = field(default_factory=Pgd)
    greedy: Greedy = field(default_factory=Greedy)
    substitutes: tuple[Source, ...] = ("typo", "neighbour")
    """What `greedy` puts in the place of a word; of several that break an answer, it takes the first."""


@dataclass(frozen=True)
class Perturbed:
    """Examples after a perturbation."""

    judged: list[Judged]
    """The answer to each."""
    changed: int
    """How many differ from what they were."""
    details: Mapping[str, Any] = field(default_factory=dict)


class Perturbation(Protocol):
    """A change of the inputs of a model."""

    adversarial: ClassVar[bool]
    """Whether it chooses the worst change by the model's answers."""

    def perturbed(self, victim: Victim, examples: Sequence[Any]) -> Perturbed:
        """Return the answers to the perturbed examples.

        Raises:
            UserError: it can change none of them, or the model does not see what it changes.
        """


@dataclass(frozen=True)
class Slice:
    """Examples with some of their words changed, whatever the model answers."""

    name: str
    augmentation: Augmentation
    strength: float | None
    """None: it edits texts as a whole."""
    seed: int
    adversarial: ClassVar[bool] = False

    def perturbed(self, victim: Victim, examples: Sequence[Any]) -> Perturbed:
        """Return the answers to the edited examples; each edit depends only on the seed and the example's id."""
        task = victim.predictor.task
        edited, changed = [], 0
        for example in examples:
            random = np.random.default_rng([self.seed, zlib.crc32(f"{self.name} {example.id}".encode())])
            before = task.editable(example)
            after = self.augmentation.edit_all(before, random)
            edited.append(task.edited(example, after) if after != before else example)
            changed += after != before
        if not changed:
            raise UserError(f"{self.name}: none of these {len(examples)} examples has {self.augmentation.needs}")
        if victim.sees_the_same(examples, edited):
            raise UserError(
                f"{self.name}: the model's tokenizer makes no difference between the texts before and after"
            )
        return Perturbed(victim.judged(edited), changed, {} if self.strength is None else {"strength": self.strength})


@dataclass(frozen=True)
class OnWords:
    """The greedy substitution of words."""

    attack: Greedy
    substitutes: Substitutes
    adversarial: ClassVar[bool] = True

    def perturbed(self, victim: Victim, examples: Sequence[Any]) -> Perturbed:
        """Return the answers to the attacked examples.

        Raises:
            UserError: none of their words has a substitute, or none is answered rightly.
        """
        views = [_view(victim.predictor.task, example) for example in examples]
        if not any(self.substitutes(words[place]) for words, free, _ in views for place in free):
            raise UserError(f"greedy: none of these {len(examples)} examples has a word that a substitute is known for")
        searches = [self.attack.search(words, free, make, self.substitutes) for words, free, make in views]
        ends: dict[int, Attacked] = {}
        for number, end in run_together(searches, victim.judged):
            ends[number] = end
            if len(ends) % _LOGGED_EVERY == 0:
                log.info("greedy: %d of %d examples, %d queries", len(ends), len(examples), victim.queries)
        attacked = [ends[number] for number in range(len(examples))]
        tried = [one for one in attacked if one.clean.right]
        if not tried:
            raise UserError(
                f"greedy: none of these {len(examples)} examples is answered rightly, as no number of a regression "
                "ever is, and only right answers are attacked. Leave greedy out of --perturb"
            )
        broken = [(one, words) for one, (words, _, _) in zip(attacked, views, strict=True) if one.broken]
        return Perturbed(
            [one.worst for one in attacked],
            sum(bool(one.changed) for one in attacked),
            {
                "attacked": len(tried),
                "success_rate": len(broken) / len(tried),
                "queries_of_an_example": sum(one.queries for one in tried) / len(tried),
                "most_queries": max((one.queries for one in attacked), default=0),
                "words_changed_of_the_broken": (
                    float(np.mean([len(one.changed) / len(words) for one, words in broken])) if broken else 0.0
                ),
            },
        )


def _view(task: Task, example: Any) -> tuple[list[str], list[int], Make]:
    """Return the words of an example, over all its texts, the positions of those that may be replaced, and a maker."""
    texts = task.editable(example)
    starts = np.cumsum([0, *(len(text.words) for text in texts)]).tolist()
    free = [start + place for start, text in zip(starts, texts, strict=False) for place in text.free]

    def make(words: Sequence[str | None]) -> Any:
        edited = []
        for start, text in zip(starts, texts, strict=False):
            own = words[start : start + len(text.words)]
            changes = {n: () if new is None else (new,) for n, new in enumerate(own) if new != text.words[n]}
            edited.append(text.replaced(changes) if changes else text)
        return task.edited(example, edited)

    return [word for text in texts for word in text.words], free, make


@dataclass(frozen=True)
class OnEmbeddings:
    """The attack with gradients."""

    attack: Pgd
    adversarial: ClassVar[bool] = True

    def perturbed(self, victim: Victim, examples: Sequence[Any]) -> Perturbed:
        """Return the worst answers to `examples`."""
        attack = self.attack
        details = {"epsilon": attack.epsilon, "norm": attack.norm, "steps": attack.steps, "restarts": attack.restarts}
        return Perturbed(attack.worst(victim, examples), len(examples), details | {"step_size": attack.size})


def chosen(
    names: Sequence[str] | None, run: FinishedRun, split: Sequence[Any], settings: Settings
) -> tuple[dict[str, Perturbation], dict[str, str]]:
    """Return the perturbations by name, and of those that nobody asked for and that do not suit the run the reason.

    Args:
        names: options of ``augment``, whose edits make slices, or `ATTACKS`; None: `SLICES` and `ATTACKS`.
        run: the run.
        split: the examples of the split, which mentions are taken from.
        settings: their strengths.

    Raises:
        UserError: a name is neither an augmentation nor an attack, or what was asked for does not suit the run.
    """
    allowed = [*sorted(file.stem for file in (conf_dir() / "augment").glob("*.yaml")), *ATTACKS]
    for name in names or ():
        if name not in allowed:
            hint = did_you_mean(name, allowed)
            raise UserError(f"--perturb {name}: there is no such perturbation.{hint} Allowed: {', '.join(allowed)}")
    made: dict[str, Perturbation] = {}
    left_out: dict[str, str] = {}
    for name in (*SLICES, *ATTACKS) if names is None else dict.fromkeys(names):
        try:
            made[name] = _made(name, run, split, settings)
        except UserError as error:
            if names is not None:
                raise
            left_out[name] = str(error)
    return made, left_out


def _made(name: str, run: FinishedRun, split: Sequence[Any], settings: Settings) -> Perturbation:
    task, model = run.predictor.task, run.predictor.model
    if name == "pgd":
        check_embeddings(name, model)
        return OnEmbeddings(settings.pgd)
    texts = [text for example in split for text in task.editable(example)]
    if name == "greedy":
        words = {word for text in texts for word in text.words} - FUNCTION_WORDS
        return OnWords(settings.greedy, _substitutes(words, run, settings.substitutes))
    augmentation: Augmentation = _option(name, {"share": 1.0, "alpha": settings.strength, "mentions": True})
    augmentation.prepare(Material(texts, run.processor, partial(_embeddings, name, model)))
    return Slice(name, augmentation, getattr(augmentation, "alpha", None), settings.seed)


def _option(name: str, values: Mapping[str, Any]) -> Any:
    """Return the augmentation `name` with other `values` of those of its options that it has."""
    node = plain_yaml.load((conf_dir() / "augment" / f"{name}.yaml").read_text(encoding="utf-8"))
    return build({**node, **{key: value for key, value in values.items() if key in node}}, f"augment.{name}")


def _embeddings(name: str, model: Any) -> np.ndarray:
    """Return the input embeddings of a model, shape (tokens, hidden)."""
    check_embeddings(name, model)
    weight = getattr(model.get_input_embeddings(), "weight", None)
    if weight is None:
        raise UserError(f"{name}: the input embeddings of this model are no table, so words have no neighbours")
    table: np.ndarray = weight.detach().float().cpu().numpy()
    return table


def _substitutes(words: Collection[str], run: FinishedRun, sources: Sequence[Source]) -> Substitutes:
    """Return the function from one of `words` to those that may take its place, in its case.

    Near words in the input embeddings occur in like contexts: synonyms, but also antonyms and words of the same topic
    (Mrkšić et al. 2016). Function words stay and are no substitutes: without them, there is no sentence. Single
    characters take the place of single ones that are no letters of ours, such as Chinese words, only.
    """
    looked_up = sorted({form for word in words for form in (word, word.lower())} - FUNCTION_WORDS)
    tables: list[Mapping[str, Sequence[str]]] = []
    for source in sources:
        if source == "typo":
            typo = _option("typo", {})
            tables.append({word: _mistyped(word, typo) for word in looked_up})
        elif source == "synonym":
            tables.append(synonyms(_option("synonym", {}).wordnet.fetch().file(INDEX), frozenset(looked_up), _SENSES))
        else:
            embeddings = _embeddings("greedy", run.predictor.model)
            tables.append(nearest(looked_up, run.tokenizer, embeddings, _NEIGHBOURS))

    def of(word: str) -> list[str]:
        if word.lower() in FUNCTION_WORDS:
            return []
        others = [other for table in tables for other in table.get(word) or table.get(word.lower(), ())]
        cased = dict.fromkeys(_in_case_of(word, other) for other in others if other.lower() not in FUNCTION_WORDS)
        return [other for other in cased if len(other) > 1 or (len(word) == 1 and not word.isascii())]

    return of


def _mistyped(word: str, typo: Typo) -> list[str]:
    """Return `word` with some typing errors, always the same; none for a word that is too short."""
    text = EditableText.of_words([word])
    if not typo.positions(text):
        return []
    random = np.random.default_rng(zlib.crc32(word.encode()))
    return list(dict.fromkeys(typo.words(text, 0, random)[0] for _ in range(_TYPOS)))


def _in_case_of(word: str, other: str) -> str:
    if word.isupper() and len(word) > 1:
        return other.upper()
    return other[:1].upper() + other[1:] if word[:1].isupper() else other
