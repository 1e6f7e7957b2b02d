"""What people see of a pool."""

from __future__ import annotations

from peftlab.active_learning.labelling_file import shown
from peftlab.tasks.inputs.several_labels import LabelledText
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.words import Sentence


def test_people_see_what_the_model_reads_and_no_gold():
    assert shown(Text("a", "x", "yes")) == {"id": "a", "text": "x"}
    assert shown(Text("a", "x", None, "y")) == {"id": "a", "text": "x", "text_pair": "y"}
    assert shown(LabelledText("a", "x", ("yes",))) == {"id": "a", "text": "x"}
    assert shown(Sentence("a", ["x", "y"], ["B-A", "O"])) == {"id": "a", "words": ["x", "y"]}
