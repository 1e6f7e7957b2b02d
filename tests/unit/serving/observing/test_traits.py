from __future__ import annotations

from peftlab.serving.observing.traits import CONFIDENCES, NOTHING, Traits, bin_of, range_of, traits


def test_each_task_has_its_labels_and_probabilities():
    entity = {"type": "LOC", "start": 0, "end": 5, "text": "Paris", "probability": 0.9}
    for answer, expected in (
        ({"entities": [entity, entity]}, Traits(("LOC", "LOC"), (0.9, 0.9))),
        ({"entities": []}, Traits((NOTHING,), ())),
        ({"predicted": "good", "probability": 0.7, "probabilities": {"good": 0.7}}, Traits(("good",), (0.7,))),
        ({"predicted": ["a", "b"], "probability": [0.6, 0.8]}, Traits(("a", "b"), (0.6, 0.8))),
        ({"predicted": [], "probability": []}, Traits((NOTHING,), ())),
        ({"intent": "book", "probability": 0.9, "slots": [entity]}, Traits(("book",), (0.9,))),
        ({"predicted": 2, "choice": "x", "probability": 0.4}, Traits((), (0.4,))),
        ({"answer": "Paris", "probability": 0.4}, Traits((), (0.4,))),
        ({"written": "Hello"}, Traits()),
        ({"predicted": None, "probability": None}, Traits()),
        ({"predicted": 0.3}, Traits()),
    ):
        assert traits(answer) == expected, answer
    assert traits({"predicted": 0.3}, [0.1, 0.5]).labels == ("0.1 to 0.5",)


def test_numbers_fall_into_ranges_and_bins():
    assert [range_of(value, [0.0, 1.0]) for value in (-1, 0, 0.5, 1, 9)] == [
        "below 0",
        "0 to 1",
        "0 to 1",
        "from 1",
        "from 1",
    ]
    assert bin_of(0.5, CONFIDENCES) == 0  # as Prometheus's buckets, whose upper ends belong to them
    assert bin_of(0.51, CONFIDENCES) == 1
    assert bin_of(1.0, CONFIDENCES) == len(CONFIDENCES)
