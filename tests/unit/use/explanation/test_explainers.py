"""The explainers: closed forms of a linear model, Captum on a real one, and what must hold for every model."""

from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from peftlab.errors import UserError
from peftlab.models.backbone import ModelSpec, fetch
from peftlab.sources import FilesSource
from peftlab.tasks.batch import ENTITY_SPANS, Batch
from peftlab.tasks.contrastive import Contrastive
from peftlab.tasks.inputs.marked_texts import MarkedText
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.words import Sentence
from peftlab.tasks.relation import RelationClassification
from peftlab.tasks.task import Selection
from peftlab.use.explanation import attention, gradients, occlusion, shapley
from peftlab.use.explanation.attribution import Settings
from peftlab.use.explanation.explain import unseen
from peftlab.use.explanation.subject import Subject, subjects
from peftlab.use.explanation.targets import Target
from peftlab.use.explanation.words import Word
from peftlab.use.predictor import Predictor

TEXT = "Marie moved from Paris to Rome ."


@pytest.fixture(scope="module")
def subject_of(pretrained, processor):
    """Return a maker of subjects of the tiny model."""
    models = {}

    def make(task, example, target=None, baseline="mask", **options):
        if task.name not in models:
            torch.manual_seed(0)
            model = pretrained.backbone(task)
            for parameter in model.parameters():  # as they are drawn, all words are much the same to it
                parameter.data.mul_(10 if parameter.ndim == 2 else 1)
            models[task.name] = model
        predictor = Predictor(model=models[task.name], task=task, processor=processor, max_tokens=32, **options)
        return subjects(predictor.in_fp32(), example, target, [baseline])[0]

    return make


class Bag(nn.Module):
    """Logits of texts that are a function of the sum of its tokens' weights: the attributions are known."""

    def __init__(self, function):
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.function = function

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(logits=self.function(self.table(input_ids) * attention_mask.unsqueeze(-1)))


def bag(function, ids, baseline=0, seed=0):
    torch.manual_seed(seed)
    tokenizer = SimpleNamespace(pad_token_id=baseline, mask_token_id=None)
    task = SimpleNamespace(bind=lambda processor: None)
    predictor = Predictor(model=Bag(function), task=task, processor=SimpleNamespace(tokenizer=tokenizer), batch_size=7)
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    batch = Batch(inputs, {}, torch.ones(1), torch.zeros(1), [None], len(ids), padding={"input_ids": 0})
    words = [Word(n, str(id), (n,)) for n, id in enumerate(ids)]
    return Subject(predictor, batch, words, Target("it", 0, lambda outputs: outputs.logits), "pad")


def linear(embeddings):
    return embeddings.sum((1, 2))


@pytest.mark.parametrize("explain", [gradients.explain, occlusion.explain, shapley.explain])
@pytest.mark.parametrize("ids", [[1, 2, 3], list(range(1, 10))], ids=["exact", "sampled"])
def test_all_agree_on_a_linear_model(explain, ids):
    subject = bag(linear, ids)
    table = subject.predictor.model.table.weight.detach()
    expected = (table[ids] - table[0]).sum(-1).double().numpy()
    one = explain(subject, Settings(steps=3, samples=4))
    assert one.values == pytest.approx(expected, abs=1e-4)
    assert one.gap is None or abs(one.gap) < 1e-4
    assert one.errors is None or one.errors == pytest.approx(0, abs=1e-4)


def test_integrated_gradients_of_a_square_are_exact_by_the_midpoint_rule():
    # the gradient of a square is linear along the path, which one step integrates
    subject = bag(lambda embeddings: embeddings.sum((1, 2)) ** 2, [1, 2, 3])
    expected = subject.full - subject.empty
    assert gradients.integrated(subject, 1).sum() == pytest.approx(expected, rel=1e-4)


def test_steps_are_doubled_until_the_values_are_complete():
    subject = bag(lambda embeddings: torch.tanh(3 * embeddings.sum((1, 2)) - 1), [1, 2, 3])
    one = gradients.explain(subject, Settings(steps=2))
    assert one.details["steps"] in (4, 8, 16)
    assert abs(one.gap) <= 0.01 * abs(subject.full - subject.empty) or one.details["steps"] == 16


def test_exact_shapley_values_are_the_mean_over_all_orders():
    subject = bag(lambda embeddings: softplus(embeddings.sum(2)).prod(1), [1, 2, 3, 4])
    expected = np.zeros(4)
    for order in permutations(range(4)):
        present = np.zeros((5, 4), dtype=bool)
        for step, word in enumerate(order):
            present[step + 1 :, word] = True
        expected[list(order)] += np.diff(subject.value(present)) / 24
    assert shapley.exact(subject) == pytest.approx(expected, abs=1e-6)
    values, errors, _ = shapley.sampled(subject, Settings(samples=400))
    assert np.all(np.abs(values - expected) <= 5 * errors + 1e-6)
    assert errors.max() > 0


def test_sampled_orders_depend_on_the_seed_alone():
    function = lambda embeddings: softplus(embeddings.sum(2)).prod(1)  # noqa: E731
    first, again, other = (
        shapley.explain(bag(function, list(range(1, 10))), Settings(samples=6, seed=seed)).values for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.slow
def test_captum_finds_the_same(subject_of, classification, ner):
    from captum.attr import FeatureAblation, LayerIntegratedGradients, ShapleyValues

    for task, example, target in (
        (classification(), Text("text:0", TEXT, None), "pos"),
        (ner(), Sentence("text:0", TEXT.split(), ["O"] * 7), "B-LOC@3"),
    ):
        for baseline in ("mask", "pad"):
            subject = subject_of(task, example, target, baseline)
            model, ids = subject.predictor.model, subject.inputs["input_ids"]

            def score(ids, subject=subject, model=model):
                mask = subject.inputs["attention_mask"].expand(len(ids), -1)
                return subject.target.score(model(input_ids=ids, attention_mask=mask))

            captum = LayerIntegratedGradients(score, model.get_input_embeddings())
            theirs = captum.attribute(ids, subject.replaced_ids, n_steps=20, method="riemann_middle")
            theirs = theirs.sum(-1)[0].detach().numpy()
            assert gradients.integrated(subject, 20) == pytest.approx(theirs, abs=1e-4)
            assert np.abs(theirs).max() > 1e-2

            groups = torch.full_like(ids, len(subject.words))
            for number, word in enumerate(subject.words):
                groups[0, list(word.positions)] = number
            firsts = [word.positions[0] for word in subject.words]
            options = {"baselines": subject.replaced_ids, "feature_mask": groups}
            theirs = FeatureAblation(score).attribute(ids, **options)[0, firsts].numpy()
            assert occlusion.explain(subject, Settings()).values == pytest.approx(theirs, abs=1e-4)

    subject = subject_of(classification(), Text("text:0", "Marie in Rome", None), "pos")
    ids, model = subject.inputs["input_ids"], subject.predictor.model
    groups = torch.full_like(ids, 3)
    for number, word in enumerate(subject.words):
        groups[0, list(word.positions)] = number

    def score_of(ids):
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, 1]

    theirs = ShapleyValues(score_of).attribute(
        ids, baselines=subject.replaced_ids, feature_mask=groups, perturbations_per_eval=1
    )
    own = shapley.explain(subject, Settings()).values
    firsts = [word.positions[0] for word in subject.words]
    # over all orders of four features, of which the last, the special tokens, changes nothing
    assert own == pytest.approx(theirs[0, firsts].numpy(), abs=1e-4)


def test_special_tokens_stay_and_pieces_are_summed(subject_of, classification):
    subject = subject_of(classification(), Text("text:0", "Warsaw , Rome", None))
    ids, replaced = subject.inputs["input_ids"][0].tolist(), subject.replaced_ids[0].tolist()
    assert (ids[0], ids[-1]) == (replaced[0], replaced[-1]) == (2, 3)
    assert [word.text for word in subject.words] == ["warsaw", ",", "rome"]
    assert sum(len(word.positions) for word in subject.words) == len(ids) - 2
    tokens = gradients.integrated(subject, 50)
    assert tokens[[0, -1]] == pytest.approx(0, abs=1e-12)
    one = gradients.explain(subject, Settings())
    assert one.values.sum() == pytest.approx(tokens.sum(), rel=0.01)
    assert abs(one.gap) <= 0.01 * abs(subject.full - subject.empty)


def test_attention_is_what_eager_attention_returns(subject_of, classification, ner):
    example = Sentence("text:0", TEXT.split(), ["O"] * 7)
    for task, text, place in ((classification(), Text("text:0", TEXT, None), 0), (ner(), example, None)):
        subject = subject_of(task, text, None if place == 0 else "LOC@3")
        model = subject.predictor.model
        query = 0 if place == 0 else subject.target.positions[0]
        before = model.config._attn_implementation
        own = attention.explain(subject, Settings()).values
        assert model.config._attn_implementation == before
        with attention.eager(model), torch.no_grad():
            layers = model(**subject.inputs, output_attentions=True).attentions
        expected = layers[-1][0].mean(0)[query]
        assert own == pytest.approx([float(expected[list(word.positions)].sum()) for word in subject.words])
        assert 0 < own.sum() < 1
        first, second = (0.5 * layer[0].mean(0) + 0.5 * torch.eye(layer.shape[-1]) for layer in layers)
        expected = (second @ first)[query]
        own = attention.rollout(subject, Settings()).values
        assert own == pytest.approx([float(expected[list(word.positions)].sum()) for word in subject.words])


RELATION = MarkedText("text:0", "Marie moved to Rome .", (0, 5), (15, 19), None)


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [("texts", None), ("texts", "mean"), ("relations", "entity_start"), ("relations", "entity_mean")],
)
def test_attention_is_read_where_the_head_reads(tiny_model, processor, classification, kind, pooling):
    task, text = classification(), Text("text:0", TEXT, None)
    if kind == "relations":
        options = {"selection": Selection(metric="micro_f1"), "no_relation": None}
        task = RelationClassification(name="relation", **options)
        task.learn_labels({"train": []}, ["neg", "pos"])
        text = MarkedText("text:0", "Marie moved to Rome .", (0, 5), (15, 19), None)
    source = fetch(ModelSpec(name="tiny", source=FilesSource(path=tiny_model), pooling=pooling), task)
    model = source.backbone(task).eval()
    predictor = Predictor(model=model, task=task, processor=processor, pooling=pooling)
    (subject,) = subjects(predictor, text, "pos", ["mask"])
    with attention.eager(model), torch.no_grad():
        outputs = model(**subject.inputs, output_attentions=True)
    first, second = (layer[0].mean(0) for layer in outputs.attentions)
    shares = torch.zeros(len(first))
    if pooling is None:
        shares[0] = 1
    elif pooling == "mean":
        shares[:] = 1 / len(shares)
    else:
        for start, end in subject.inputs[ENTITY_SPANS][0].tolist():
            own = slice(start, start + 1 if pooling == "entity_start" else end)
            shares[own] = 0.5 / len(shares[own])
    passed_on = [(weights + torch.eye(len(first))) / 2 for weights in (first, second)]
    for explain, weights in ((attention.explain, second), (attention.rollout, passed_on[1] @ passed_on[0])):
        expected = [float((shares @ weights)[list(word.positions)].sum()) for word in subject.words]
        assert explain(subject, Settings()).values == pytest.approx(expected, abs=1e-6)


def test_deleted_words_leave_a_shorter_text(subject_of, classification, processor):
    subject = subject_of(classification(), Text("text:0", TEXT, None), "pos", "delete")
    one = occlusion.explain(subject, Settings()).values
    words = TEXT.split()
    model = subject.predictor.model
    for number in (0, 3, 6):
        rest = " ".join(words[:number] + words[number + 1 :])
        with torch.no_grad():
            logit = model(**processor.tokenizer(rest, return_tensors="pt")).logits[0, 1]
        assert one[number] == pytest.approx(subject.full - float(logit), abs=1e-5)


def test_what_the_model_does_not_see_is_said(subject_of, classification):
    whole = subject_of(classification(), Text("text:0", TEXT, None), "pos")
    cut = subject_of(classification(), Text("text:0", f"{TEXT} {TEXT} {TEXT} {TEXT} {TEXT} {TEXT}", None), "pos")
    assert not [*unseen(whole)]
    (said,) = unseen(cut)
    assert "data.max_tokens=32" in said
    assert "lost_tokens" in said


def test_what_does_not_suit_is_refused(subject_of, ner, classification):
    sentence = Sentence("text:0", TEXT.split(), ["O"] * 7)
    with pytest.raises(UserError, match=r"--baseline delete: task=ner reads its answer at certain tokens.*mask, pad"):
        subject_of(ner(), sentence, "LOC@3", "delete")
    with pytest.raises(UserError, match="the model sees no word of this text"):
        subject_of(classification(), Text("text:0", "", None))
    contrastive = Contrastive(name="contrastive", selection=Selection(metric="macro_f1"))
    contrastive.learn_labels({"train": []}, ["neg", "pos"])
    with pytest.raises(UserError, match="attention: BertForEmbeddingClassification returns no attention weights"):
        attention.explain(subject_of(contrastive, Text("text:0", TEXT, None)), Settings())


def test_deletion_has_to_leave_a_token(language_model, classification):
    task = classification()
    source = fetch(ModelSpec(name="tiny", source=FilesSource(path=language_model("llama"))), task)
    predictor = Predictor(model=source.backbone(task), task=task, processor=source.processor("tokenizer"))
    with pytest.raises(UserError, match=r"--baseline delete: the model puts no special token .* Allowed: pad$"):
        subjects(predictor, Text("text:0", TEXT, None), "pos", ["delete"])


def test_a_model_without_embeddings_is_explained_by_its_token_ids(subject_of, classification):
    subject = subject_of(classification(), Text("text:0", TEXT, None), "pos")
    expected = shapley.explain(subject, Settings()).values

    class Session(nn.Module):
        """A model behind a wall, as in another runtime."""

        def __init__(self, inner):
            super().__init__()
            self.inner = [inner]

        def forward(self, **inputs):
            return self.inner[0](**inputs)

    task = subject.predictor.task
    behind = Predictor(model=Session(subject.predictor.model), task=task, processor=subject.predictor.processor)
    (session,) = subjects(behind, Text("text:0", TEXT, None), "pos", ["mask"])
    assert shapley.explain(session, Settings()).values == pytest.approx(expected, abs=1e-5)
    for explain, message in (
        (gradients.explain, "no one table of input embeddings; take --how occlusion or shapley"),
        (attention.explain, "returns no attention of one stack of layers"),
    ):
        with pytest.raises(UserError, match=message):
            explain(session, Settings())
