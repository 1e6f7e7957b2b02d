import pickle
import random
import warnings

import pytest
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

from peftlab.scores.bio import Entity, TagError, bio_labels, detect_scheme, entities, is_tag, repaired_bio, to_bio

TYPES = ["PER", "LOC", "creative-work"]


def random_tags(random_: random.Random, prefixes: str = "BI") -> list[str]:
    labels = ["O", *(f"{prefix}-{type_}" for prefix in prefixes for type_ in TYPES)]
    return random_.choices(labels, k=random_.randint(0, 9))


def random_bio(random_: random.Random) -> list[str]:
    """A possible BIO sentence, with many entities that touch."""
    tags: list[str] = []
    while len(tags) < 12 and random_.random() < 0.85:
        type_ = random_.choice([None, *TYPES])
        tags += ["O"] if type_ is None else [f"B-{type_}"] + [f"I-{type_}"] * random_.choice([0, 0, 1, 2])
    return tags


def in_iob1(tags: list[str]) -> list[str]:
    converted = []
    for before, tag in zip(["O", *tags], tags, strict=False):
        needed = tag.startswith("B-") and before != "O" and before[2:] == tag[2:]
        converted.append(tag if needed or tag == "O" else f"I-{tag[2:]}")
    return converted


def in_bioes(tags: list[str], end: str = "E", single: str = "S") -> list[str]:
    converted = []
    for tag, after in zip(tags, [*tags[1:], "O"], strict=False):
        last = not after.startswith("I-")
        letter = {"O": "O", "B": single if last else "B", "I": end if last else "I"}[tag[0]]
        converted.append(letter + tag[1:])
    return converted


def test_entities_are_typed_spans_with_an_exclusive_end() -> None:
    found = entities(["B-PER", "I-PER", "O", "B-creative-work"])
    assert found == [Entity("PER", 0, 2), Entity("creative-work", 3, 4)]
    assert (found[0].type, found[0].start, found[0].end) == ("PER", 0, 2)
    assert entities([]) == []


@pytest.mark.parametrize(
    ("tags", "conlleval", "discard"),
    [
        (["O", "I-PER", "I-PER"], [("PER", 1, 3)], []),
        (["B-PER", "I-LOC"], [("PER", 0, 1), ("LOC", 1, 2)], [("PER", 0, 1)]),
        (["B-PER", "I-LOC", "I-PER"], [("PER", 0, 1), ("LOC", 1, 2), ("PER", 2, 3)], [("PER", 0, 1)]),
        (["B-PER", "B-PER"], [("PER", 0, 1), ("PER", 1, 2)], [("PER", 0, 1), ("PER", 1, 2)]),
    ],
)
def test_the_repair_policies_differ_in_an_entity_without_b(tags: list[str], conlleval: list, discard: list) -> None:
    assert entities(tags) == entities(tags, "conlleval") == conlleval
    assert entities(tags, "discard") == discard


@pytest.mark.slow
def test_entities_equal_seqeval_on_random_sequences() -> None:
    random_ = random.Random(0)
    sentences = [random_tags(random_) for _ in range(5000)]
    strict = Entities(sentences, IOB2).entities
    differing = 0
    for tags, strict_entities in zip(sentences, strict, strict=True):
        conlleval = [(type_, start, last + 1) for type_, start, last in get_entities(tags)]
        discard = [(each.tag, each.start, each.end) for each in strict_entities]
        assert entities(tags, "conlleval") == conlleval
        assert entities(tags, "discard") == discard
        differing += conlleval != discard
    assert differing > 1000  # so that sequences without a B are well covered


def test_entities_read_only_bio() -> None:
    with pytest.raises(TagError, match="E-PER is not a tag of the bio scheme, which has O, B-TYPE, I-TYPE") as caught:
        entities(["B-PER", "E-PER"])
    assert caught.value.position == 1


def test_possible_bio_is_unchanged_and_equal_in_every_scheme() -> None:
    random_ = random.Random(1)
    for _ in range(3000):
        tags = random_bio(random_)
        assert to_bio(tags, "bio") == repaired_bio(tags) == tags
        assert to_bio(in_iob1(tags), "iob1") == tags
        assert to_bio(in_bioes(tags), "bioes") == tags
        assert to_bio(in_bioes(tags, end="L", single="U"), "bioes") == tags


@pytest.mark.slow
def test_repair_equals_seqeval_on_any_prefixes() -> None:
    random_ = random.Random(2)
    for _ in range(5000):
        tags = random_tags(random_, "BIES")
        with warnings.catch_warnings(action="ignore"):
            expected = [(type_, start, last + 1) for type_, start, last in get_entities(tags)]
        repaired = repaired_bio(tags)
        assert to_bio(repaired, "bio") == repaired
        assert entities(repaired) == expected
        assert repaired_bio([tag.replace("E-", "L-").replace("S-", "U-") for tag in tags]) == repaired


@pytest.mark.parametrize(
    ("scheme", "tags", "position", "reason"),
    [
        ("bio", ["O", "I-PER"], 1, "I-PER cannot follow O in the bio scheme"),
        ("bio", ["I-PER"], 0, "I-PER cannot start a sentence in the bio scheme"),
        ("bio", ["B-LOC", "I-LOC", "I-PER"], 2, "I-PER cannot follow I-LOC in the bio scheme"),
        ("bio", ["S-PER"], 0, "S-PER is not a tag of the bio scheme, which has O, B-TYPE, I-TYPE"),
        ("iob1", ["I-LOC", "B-PER"], 1, "B-PER cannot follow I-LOC in the iob1 scheme"),
        ("iob1", ["B-PER"], 0, "B-PER cannot start a sentence in the iob1 scheme"),
        ("iob1", ["I-PER", "U-PER"], 1, "U-PER is not a tag of the iob1 scheme, which has O, B-TYPE, I-TYPE"),
        ("bioes", ["B-PER", "O"], 1, "O cannot follow B-PER in the bioes scheme"),
        ("bioes", ["B-PER", "I-PER"], 1, "I-PER cannot end a sentence in the bioes scheme"),
        ("bioes", ["B-PER", "E-LOC"], 1, "E-LOC cannot follow B-PER in the bioes scheme"),
        ("bioes", ["S-PER", "E-PER"], 1, "E-PER cannot follow S-PER in the bioes scheme"),
        ("bioes", ["B-PER", "L-PER", "I-PER"], 2, "I-PER cannot follow L-PER in the bioes scheme"),
    ],
)
def test_impossible_tags_are_named(scheme, tags: list[str], position: int, reason: str) -> None:
    with pytest.raises(TagError) as caught:
        to_bio(tags, scheme)
    assert (caught.value.position, caught.value.reason) == (position, reason)
    assert str(caught.value) == f"{reason} (position {position})"


@pytest.mark.parametrize("tag", ["X-PER", "B", "B-", "PER", "", "o", "b-PER", "O-PER", "BPER", "B_PER", "B-PER ", "-"])
def test_malformed_tags_are_named_everywhere(tag: str) -> None:
    assert not is_tag(tag)
    tags = ["O", tag]
    for read in (
        entities,
        lambda tags: entities(tags, "discard"),
        repaired_bio,
        lambda tags: to_bio(tags, "bio"),
        lambda tags: to_bio(tags, "iob1"),
        lambda tags: to_bio(tags, "bioes"),
        lambda tags: detect_scheme([tags]),
    ):
        with pytest.raises(TagError) as caught:
            read(tags)
        assert caught.value.position == 1
        assert caught.value.reason.startswith(f"{tag!r} is not a tag; allowed are O, B-TYPE, I-TYPE")


@pytest.mark.parametrize("tag", ["O", "B-PER", "I-creative-work", "E-1", "S-PER", "L-PER", "U-PER"])
def test_well_formed_tags(tag: str) -> None:
    assert is_tag(tag)


def test_the_error_crosses_processes() -> None:
    error = pickle.loads(pickle.dumps(TagError(3, "why")))
    assert (error.position, error.reason) == (3, "why")


@pytest.mark.parametrize(
    ("scheme", "sentences"),
    [
        ("bio", []),
        ("bio", [["O", "O"]]),
        ("bio", [["B-PER", "O"], ["O", "B-LOC"]]),
        ("bio", [["B-PER", "I-PER"]]),
        ("iob1", [["I-PER", "I-PER"]]),
        ("iob1", [["O", "O"], ["I-PER", "B-PER"]]),
        ("bio", [["B-PER"], ["I-PER"]]),  # possible in neither
        ("bio", [["I-PER"], ["B-PER"]]),
        ("bioes", [["O"], ["S-PER"]]),
        ("bioes", [["I-PER"], ["B-PER", "E-PER"]]),
        ("bioes", [["U-PER"]]),
        ("bioes", [["B-PER", "L-PER"]]),
    ],
)
def test_detect_scheme(scheme: str, sentences: list[list[str]]) -> None:
    assert detect_scheme(sentences) == scheme
    assert detect_scheme(iter(sentences)) == scheme


def test_detect_scheme_on_random_data_sets() -> None:
    random_ = random.Random(3)
    for _ in range(50):
        sentences = [*(random_bio(random_) for _ in range(20)), ["B-PER", "I-PER", "B-PER", "O"]]
        assert detect_scheme(sentences) == "bio"
        assert detect_scheme([in_iob1(tags) for tags in sentences]) == "iob1"
        assert detect_scheme([in_bioes(tags) for tags in sentences]) == "bioes"


def test_bio_labels_keep_the_order_of_the_types() -> None:
    assert bio_labels(["PER", "LOC"]) == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    assert bio_labels([]) == ["O"]


def in_ioe(tags: list[str], scheme: str) -> list[str]:
    converted = []
    for tag, after in zip(tags, [*tags[1:], "O"], strict=False):
        last = tag != "O" and not after.startswith("I-")
        marked = last and (scheme == "ioe2" or after == f"B-{tag[2:]}")
        converted.append("O" if tag == "O" else f"{'E' if marked else 'I'}-{tag[2:]}")
    return converted


def test_other_letters_and_marked_ends_are_the_same_entities() -> None:
    random_ = random.Random(4)
    for _ in range(2000):
        tags = random_bio(random_)
        bmes = [tag.replace("I-", "M-", 1) for tag in in_bioes(tags)]
        assert to_bio(bmes, "bioes") == to_bio(in_bioes(tags, single="W"), "bioes") == tags
        for scheme in ("ioe1", "ioe2"):
            assert to_bio(in_ioe(tags, scheme), scheme) == repaired_bio(in_ioe(tags, scheme)) == tags


def test_detect_marked_ends_on_random_data_sets_with_a_few_mistakes() -> None:
    random_ = random.Random(5)
    touching = ["B-PER", "I-PER", "B-PER", "O"]
    for _ in range(30):
        sentences = [*(random_bio(random_) for _ in range(20)), touching, touching]
        for scheme in ("ioe1", "ioe2"):
            assert detect_scheme([in_ioe(tags, scheme) for tags in sentences]) == scheme
        assert detect_scheme([*sentences, ["O", "S-PER"]]) == "bio"
        assert detect_scheme([*map(in_bioes, sentences), ["B-PER", "O"]]) == "bioes"
        assert detect_scheme([*map(in_iob1, sentences), touching]) == "iob1"
