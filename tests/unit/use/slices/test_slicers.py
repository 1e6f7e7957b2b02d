"""Every slicer on the answers of every kind of task: parts that add up to the whole, or a reason why there are none."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from peftlab.scores.choice_scores import ChoiceScores
from peftlab.scores.class_scores import ClassScores
from peftlab.scores.entity_scores import EntityScores
from peftlab.scores.joint_scores import JointScores
from peftlab.scores.label_sets import LabelSets
from peftlab.scores.numbers import NumberScores
from peftlab.scores.relations import RelationScores
from peftlab.scores.squad import SquadScores
from peftlab.use.slices.by.question import type_of
from peftlab.use.slices.measure import _slicer, slicers
from peftlab.use.slices.subject import Subject, Training, UnsuitedError

TEXTS = ["The World Health Organization (WHO) did not ask", "WHO asked", "NASA came. It rained", "no"]
TRAINING = Training(
    Counter({"a": 90, "b": 9, "X": 90, "Y": 9}),
    {"who": frozenset({"X"}), "nasa": frozenset({"Y"})},
    frozenset({"nasa"}),
)


def of(scorer, gold, predicted, inputs=TEXTS, **others):
    answers = [
        {"id": f"test:{n}", "input": one, "gold": right, "predicted": said, "group": "d", **others}
        for n, (one, right, said) in enumerate(zip(inputs, gold, predicted, strict=True))
    ]
    subject = Subject(SimpleNamespace(), answers, scorer)
    subject.__dict__["training"] = TRAINING
    return subject


WORDS = [text.replace("(", "( ").replace(")", " )").split() for text in TEXTS]
TAGS = [["B-X" if word in ("WHO", "NASA") else "O" for word in words] for words in WORDS]
NONE = [["O"] * len(words) for words in WORDS]

SUBJECTS = {
    "entities": lambda: of(EntityScores(["X", "Y"]), TAGS, [*TAGS[:2], *NONE[2:]], WORDS),
    "classes": lambda: of(ClassScores(["a", "b"]), "abab", "aabb"),
    "pairs": lambda: of(ClassScores(["a", "b"]), "abab", "aabb", [["Is it so?", text] for text in TEXTS]),
    "label sets": lambda: of(
        LabelSets(["a", "b"]), [["a"], ["a", "b"], [], ["b"]], [["a"]] * 4, probabilities={"a": 0.9, "b": 0.2}
    ),
    "numbers": lambda: of(NumberScores(), [1.0, 2.0, 3.0, 4.0], [1.0, 2.5, 3.0, 3.0]),
    "relations": lambda: of(RelationScores(["a", "b"], None), "abab", "aabb"),
    "choices": lambda: of(ChoiceScores(), [0, 1, 0, 1], [0] * 4, [{"choices": TEXTS, "of": "Who?"}] * 4, choices=4),
    "answers": lambda: of(
        SquadScores(), [["WHO"], ["WHO"], ["NASA"], ["no"]], ["WHO", "", "NASA", "x"],
        [[question, text] for question, text in zip(("Who?", "Was it not so?", "How many?", "x"), TEXTS, strict=True)],
    ),
    "slots": lambda: of(
        JointScores(["X"], ["a", "b"]),
        [{"intent": "a", "tags": tags} for tags in TAGS],
        [{"intent": "b", "tags": tags} for tags in NONE],
        WORDS,
    ),
    "files": lambda: of(ClassScores(["a", "b"]), "abab", "aabb", ["shots/1.png", "shot 2.JPG", "t10k.gz#3", "t10k#4"]),
}  # fmt: skip

UNSUITED = {
    "entities": {"question"},
    "classes": {"seen", "question"},
    "pairs": {"seen"},
    "label sets": {"seen", "question"},
    "numbers": {"seen", "question"},
    "relations": {"seen", "question"},
    "choices": {"seen"},
    "answers": set(),
    "slots": {"seen", "question"},
    "files": {"abbreviation", "negation", "length", "seen", "question"},
}


@pytest.mark.parametrize("kind", SUBJECTS)
def test_slices_of_every_task(kind):
    subject, unsuited = SUBJECTS[kind](), set()
    for name in slicers():
        if name == "column":
            continue
        try:
            parts = list(_slicer(name)(subject))
        except UnsuitedError:
            unsuited.add(name)
            continue
        assert parts, name
        for one in parts:
            rest = subject.counts - one.counts
            assert (np.abs(one.counts) <= np.abs(subject.counts)).all(), (name, one.name)
            assert ((one.counts == 0) | (rest == 0)).all() or one.unit == "entities"
            assert one.size <= max(len(subject.answers), 9)
    assert unsuited == UNSUITED[kind]


def sizes(kind, name):
    return {one.name: one.size for one in _slicer(name)(SUBJECTS[kind]())}


def test_abbreviations():
    """A definition holds in the whole document, which is one of four sentences."""
    assert sizes("entities", "abbreviation") == {"short form, defined": 2, "short form, undefined": 1, "long form": 0}
    assert sizes("classes", "abbreviation") == {"short form, defined": 2, "short form, undefined": 1}


def test_negations():
    assert sizes("classes", "negation") == {"negation": 2}
    assert sizes("answers", "negation") == {"negation in the question": 1}


def test_positions():
    assert sizes("classes", "document") == {"first third": 2, "second third": 1, "last third": 1}
    assert sizes("answers", "document") == {"first third": 3, "second third": 1, "last third": 0}


def test_what_was_seen_and_what_is_rare():
    assert sizes("entities", "seen") == {"seen in training": 2, "seen as another type": 1, "not seen in training": 0}
    assert sizes("answers", "seen") == {"answer seen in training": 1}
    assert sizes("classes", "rare") == {"rare label": 2}
    assert sizes("label sets", "rare") == {"rare label": 2}


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Who was it?", "who"),
        ("Whose is it?", "who"),
        ("In which year?", "which"),
        ("how  many were there?", "how many"),
        ("How did it end?", "how"),
        ("Does aspirin help?", "yes or no"),
        ("The end?", "other"),
    ],
)
def test_types_of_questions(question, kind):
    assert type_of(question) == kind
