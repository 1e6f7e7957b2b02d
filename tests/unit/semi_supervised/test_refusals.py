"""What does not go together with unlabelled texts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from peftlab.errors import ConfigError
from peftlab.regularizers.confidence_penalty import ConfidencePenalty
from peftlab.regularizers.focal import Focal
from peftlab.regularizers.rdrop import RDrop
from peftlab.semi_supervised.refusals import refuse
from peftlab.semi_supervised.uda import Uda
from peftlab.tasks.multilabel import MultiLabel
from peftlab.tasks.task import Selection


def spec_of(semi, **regularizers):
    """Return the specification of a run in which nothing but regularisers could be in the way."""
    task = SimpleNamespace(name="task", draws_partners=False, head=SimpleNamespace(outputs="text"), packs=False)
    sections = {
        "privacy": None,
        "federated": None,
        "trainer": SimpleNamespace(sharded=False, strategy="ddp", compile=False),
    }
    sections |= {"budget": SimpleNamespace(half=None), "model": SimpleNamespace(pooling="mean")}
    acting = {name: each for name, each in {**regularizers, "semi": semi}.items() if each.off is None}
    return SimpleNamespace(task=task, acting=acting, **sections)


@pytest.mark.parametrize("other", [Focal(), RDrop()])
def test_an_easy_example_cannot_be_left_out_of_another_loss_than_the_tasks(other):
    annealed = Uda(tsa="linear")
    with pytest.raises(ConfigError, match=r"semi\.tsa=linear: .* regularizer\.other .* Set semi\.tsa=null, or leave"):
        refuse(annealed, spec_of(annealed, other=other))
    for semi in (Uda(), Uda(tsa="linear", lambda_u=0)):
        refuse(semi, spec_of(semi, other=other))
    refuse(annealed, spec_of(annealed, other=ConfidencePenalty()))
    refuse(annealed, spec_of(annealed, focal=Focal(gamma=0.0), rdrop=RDrop(strength=0.0)))


def test_annealing_is_for_texts_with_one_label():
    task = MultiLabel(name="topics", selection=Selection(metric="micro_f1"))
    task.labels = ["a", "b"]
    assert Uda().unsuited(task) is None
    assert "a text of task=topics has not one label" in Uda(tsa="linear").unsuited(task)
