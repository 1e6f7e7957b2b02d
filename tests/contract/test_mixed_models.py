"""What every method must hold in a server: its inputs share batches with those of others, or are computed alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tests.answers import flat
from tests.method_files import METHODS, OFTEN

from peftlab.data.splits import split_files
from peftlab.methods.head import head_of
from peftlab.methods.method import MethodContext
from peftlab.models.positions import reserve
from peftlab.serving.models.mixing import Mixed
from peftlab.use.predictor import Predictor

pytestmark = pytest.mark.slow

ALONE = {"prompt_tuning", "p_tuning", "sliced", "full", "top_layers"}
"""Methods that change what the whole encoder takes or consists of, or most of its weights."""
NO_PART_APART = {
    *("lora", "lora_plus", "rslora", "eva", "pissa", "olora", "dora", "adalora"),
    *("head", "bitfit", "ia3", "ln_tuning", "houlsby", "pfeiffer", "parallel", "loreft", "compacter"),
}
"""Methods all of whose rows meet the backbone's weights with those of the others."""

TEXTS = [
    "Ada Lovelace moved to Paris .",
    "nothing happened",
    "the Acme report was read by Alan Turing , said Noether .",
]


@pytest.fixture(scope="module")
def tasks(spec, data_for):
    """Two tasks, with outputs for words and for texts."""
    learnt = []
    for name in ("ner", "classification"):
        whole = spec(f"task={name}", *data_for(spec(f"task={name}").task))
        fetched = whole.data.source.fetch()
        files = split_files(whole.data.splits, fetched, folders=False)
        examples = whole.data.format.read({"train": fetched.file(files["train"])})["train"]
        whole.task.learn_labels({"train": examples}, None)
        learnt.append(whole.task)
    return learnt


@pytest.fixture
def served(spec, tasks, pretrained, backbones):
    """Return a maker of predictors by name: a model of each method for each task, that has learnt something."""
    processor = pretrained.processor("tokenizer")

    def make(names):
        made = {}
        for name in names:
            for seed, task in enumerate(tasks):
                method, model = spec(f"peft={name}").peft, backbones(seed, task)
                context = MethodContext(head_of(model), task.head.task_type, pretrained.origin, task.head.outputs)
                model = method.apply(model, context)
                reserve(model, method.virtual_tokens)
                with torch.no_grad():
                    for parameter in method.trained(model).values():
                        if parameter.is_floating_point():
                            parameter.add_(0.05 * torch.randn_like(parameter))
                parts = SimpleNamespace(model=SimpleNamespace(quantize="none"), peft=method)
                made[f"{name}-{task.name}"] = Predictor(model, task, processor, max_tokens=64), parts
        return made

    return make


@pytest.mark.parametrize(
    "names", [sorted({*OFTEN, *ALONE, "dora", "pissa"}), pytest.param(METHODS, marks=pytest.mark.exhaustive)]
)
def test_inputs_of_all_methods_in_one_batch_are_answered_as_alone(names, served, tasks, pretrained):
    made = served(names)
    mixed = Mixed(pretrained.load(tasks[0]), torch.device("cpu"))
    alone = {}
    for name, (predictor, parts) in made.items():
        if Mixed.key(predictor, parts, "") is None:
            alone[name] = "as a whole"
        elif (why := mixed.add(name, predictor)) is not None:
            alone[name] = why
    assert {name.partition("-")[0] for name in alone} == ALONE & {*names}, alone
    inputs = {}
    for number, name in enumerate(mixed.names):
        predictor, _ = made[name]
        texts = TEXTS[: 1 + number % 3]
        examples = [predictor.read(text) for text in texts]
        inputs[name] = predictor, examples, predictor.task.encode(examples, predictor.processor, predictor.limits)
    together = mixed.replies(inputs)
    for name, (predictor, examples, encoded) in inputs.items():
        assert flat(together[name]) == pytest.approx(flat(predictor.computed(examples, encoded)), abs=1e-5), name
    for name in mixed.names:
        if name.partition("-")[0] in NO_PART_APART:
            assert not mixed.apart(name), name


@pytest.mark.parametrize("order", [1, -1])
def test_pairs_and_single_texts_in_one_batch_are_answered_as_alone(order, served, tasks, pretrained):
    made = served(["bitfit"])
    mixed = Mixed(pretrained.load(tasks[0]), torch.device("cpu"))
    objects = {"bitfit-ner": TEXTS, "bitfit-classification": [{"text": text, "text_pair": TEXTS[0]} for text in TEXTS]}
    inputs = {}
    for name in [*made][::order]:
        predictor, _ = made[name]
        assert mixed.add(name, predictor) is None
        examples = [predictor.read(one) for one in objects[name]]
        inputs[name] = predictor, examples, predictor.task.encode(examples, predictor.processor, predictor.limits)
    together = mixed.replies(inputs)
    for name, (predictor, examples, encoded) in inputs.items():
        assert flat(together[name]) == pytest.approx(flat(predictor.computed(examples, encoded)), abs=1e-5), name
