"""What every task of ``conf/task/`` must hold. A new file there is tested without a change here, once there is data of
its kind.
"""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch
from peft import TaskType
from tests.tiny_models import OF_HEADS

from peftlab.composing.compose import conf_dir
from peftlab.data.data_card import Tokenised, data_card
from peftlab.data.reading import DataFacts
from peftlab.data.splits import split_files
from peftlab.data.static_shapes import StaticShapes
from peftlab.errors import DataError
from peftlab.models.backbone import ModelSpec, fetch
from peftlab.sources import FilesSource
from peftlab.tasks.labelled import LabelledTask
from peftlab.tasks.networks.heads import model_class
from peftlab.tasks.outputs.metric import ScorerMetric
from peftlab.tasks.outputs.mixing import Members, Mixture
from peftlab.tasks.ranking_task import RankingTask
from peftlab.tasks.task import Task
from peftlab.use.explanation.attribution import Settings
from peftlab.use.explanation.explainers import EXPLAINERS
from peftlab.use.explanation.subject import subjects
from peftlab.use.predictor import Predictor

OF_PAIRS = {"dpo"}
"""Tasks that compare two answers, which have tests of their own: no prediction of theirs stands beside gold."""
OF_FILES = {"image_classification", "audio_classification", "speech_recognition"}
"""Tasks on files, which no limit of tokens cuts: tests/contract/test_tasks_on_files.py."""
TASKS = sorted({path.stem for path in (conf_dir() / "task").glob("*.yaml")} - OF_PAIRS - OF_FILES)


INPUTS = {
    "Question": lambda text: {"question": "moved", "context": text},
    "MarkedText": lambda text: {"text": f"<e1>Ada</e1> {text} in <e2>Rome</e2>"},
    "Choices": lambda text: {"question": text, "choices": ["Marie Curie", "Paris"]},
}
"""By kind of example, an input about a text, where it is not the text alone."""

SHORTEST = {"MarkedText": 9, "Conversation": 44, "prompt": 20}
"""By kind of example or task, the tokens of the shortest row, where it needs more than others."""


def shortest_of(task):
    return SHORTEST.get(task.name, SHORTEST.get(task.example.__name__, 0))


def input_of(task, text):
    return INPUTS.get(task.example.__name__, lambda text: {"text": text})(text)


_WRITES = ["task.generate.at=always", "task.generate.max_new_tokens=6"]
SETTINGS = {"causal_lm": [*_WRITES, "task.packing=off"], "seq2seq": _WRITES}
"""Settings for tasks: short texts are written in all evaluations; how examples share a row has tests of its own."""


def perfect(prediction):
    """Return a prediction of the gold, whose probabilities say so too where they count."""
    if "written_tokens" in prediction:
        return prediction | {"predicted": prediction["gold"], "log_probability": 0.0, "stopped": True}
    if "masked" in prediction:
        return prediction | {"predicted": prediction["masked"], "log_probability": [0.0] * len(prediction["masked"])}
    if "user" in prediction:
        return prediction | {"predicted": prediction["gold"], "score": float(prediction["gold"])}
    if "rank" in prediction:
        return prediction | {"predicted": [prediction["gold"]], "rank": 1}
    right = prediction | {"predicted": prediction["gold"]}
    if isinstance(of_all := prediction.get("probabilities"), dict):
        right["probabilities"] = {label: float(label in prediction["gold"]) for label in of_all}
    return right


class Case:
    """A task that knows its labels, examples for it, and a model whose head fits."""

    def __init__(self, spec, processor, model, examples):
        self.task, self.processor, self.model, self.examples = spec.task, processor, model, examples
        self.limits = spec.data.limits

    def encoded(self, examples=None, **limits):
        limits = self.limits._replace(**limits)
        limits = limits._replace(max_tokens=max(limits.max_tokens, shortest_of(self.task)))
        return self.task.encode(examples or self.examples, self.processor, limits)

    def batch(self, indices, **limits):
        return self.task.collate(self.examples, self.encoded(**limits), indices)

    @torch.no_grad()
    def outputs(self, batch):
        return self.task.outputs(self.model, batch)

    @torch.no_grad()
    def answers(self, batch, final=False):
        return self.task.answers(self.outputs(batch), batch, self.model, final)


@pytest.fixture(scope="module", params=TASKS)
def case(request, spec, data_for, pretrained, language_model):
    task = spec(f"task={request.param}").task
    whole = spec(f"task={request.param}", *SETTINGS.get(request.param, []), *data_for(task))
    if kind := OF_HEADS.get(task.head.model):
        pretrained = fetch(ModelSpec(name=kind, source=FilesSource(path=language_model(kind))), task)
    fetched = whole.data.source.fetch()
    files = split_files(whole.data.splits, fetched, folders=False)
    splits = whole.data.format.read({split: fetched.file(file) for split, file in files.items()})
    whole.task.learn_labels(splits, None)
    whole.task.settle(splits["train"], None)
    torch.manual_seed(0)
    processor = pretrained.processor(whole.task.processor)
    whole.task.bind(processor)
    return Case(whole, processor, pretrained.backbone(whole.task).eval(), splits["train"][:16])


def scores(task, *batches):
    metric = ScorerMetric(task.scorer)
    for predictions in batches or [[]]:
        metric.update(predictions)
    return {name: float(value) for name, value in metric.compute().items()}


def up_to_rounding(predicted):
    """Return what equals a prediction or its probability: the same labels, or numbers that are near, or None."""
    many = predicted if isinstance(predicted, list) else [predicted]
    if isinstance(predicted, list) and None in many:
        return [None if one is None else pytest.approx(one, rel=1e-4) for one in many]
    are_numbers = all(isinstance(one, float) for one in many)
    return pytest.approx(predicted, rel=1e-4) if are_numbers else predicted


@pytest.mark.one_in(5, "slow")
def test_its_head_is_known_to_transformers_and_to_the_library(case):
    assert callable(model_class(case.task.head).from_pretrained)
    assert case.task.head.task_type in {None, *(kind.value for kind in TaskType)}


def test_examples_are_of_its_kind(case):
    assert {type(example) for example in case.examples} == {case.task.example}


def test_declared_labels_give_the_same_labels_again(case):
    fields = {field.name: getattr(case.task, field.name) for field in dataclasses.fields(case.task) if field.init}
    again = type(case.task)(**fields)
    assert again.labels == []
    again.learn_labels({"train": []}, case.task.declared_labels)
    assert again.labels == case.task.labels
    assert len(set(again.labels)) == len(again.labels) != 1
    json.dumps(case.task.declared_labels)


def test_the_classes_of_an_example_are_counted(case):
    for example in case.examples:
        counts = case.task.classes(example)
        assert all(isinstance(name, str) and isinstance(count, int) and count > 0 for name, count in counts.items())
        assert len(counts) <= len(case.task.labels)


def test_its_data_has_a_card(case):
    splits = {"train": case.examples, "validation": case.examples[:2], "test": case.examples[2:4]}
    tokenised = {
        split: Tokenised(case.encoded(members, max_tokens=24), case.encoded(members).tokens)
        for split, members in splits.items()
    }
    facts = DataFacts(files=dict.fromkeys(splits, "x"), dropped={split: {} for split in splits})
    for card in (data_card("x", splits, facts, case.task, 24, each) for each in (None, tokenised)):
        assert card.splits["train"].rows == len(case.examples)
        assert card.leaks
        assert bool(card.splits["train"].classes) == any(map(case.task.classes, case.examples))
        json.dumps(card.document())


def test_encoding_is_a_pure_function(case):
    first, again = (case.encoded() for _ in range(2))
    assert first.arrays.keys() == again.arrays.keys()
    assert all((first.arrays[name] == again.arrays[name]).all() for name in first.arrays)
    assert (first.lengths == again.lengths).all()
    assert first.counts == again.counts
    assert len(first.lengths) == len(case.examples)
    assert all(isinstance(count, int) for count in first.counts.values())


def test_a_batch_holds_the_examples_asked_for(case):
    batch = case.batch([5, 2, 9])
    assert batch.examples == [case.examples[i] for i in (5, 2, 9)]
    assert batch.tokens == int(batch.inputs["attention_mask"].sum())
    assert batch.tokens == sum(case.batch([i]).tokens for i in (5, 2, 9))
    assert batch.inputs["input_ids"].shape == batch.inputs["attention_mask"].shape


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("max_tokens", [128, 6])  # and sentences in several rows
def test_the_tokens_of_an_example_are_counted_without_a_batch(case, max_tokens):
    indices = range(len(case.examples))
    alone = [case.batch([i], max_tokens=max_tokens).tokens for i in indices]
    assert case.encoded(max_tokens=max_tokens).tokens.tolist() == alone


def test_short_rows_are_obeyed(case):
    shortest = shortest_of(case.task) or 6
    assert case.batch(range(16), max_tokens=6).inputs["input_ids"].shape[1] <= shortest


def test_the_model_takes_a_batch_and_the_loss_has_gradients(case):
    batch = case.batch(range(8))
    loss = case.task.loss(case.model(**batch.inputs), batch)
    assert loss.shape == ()
    assert loss.isfinite()
    parameters = list(case.model.parameters())
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, parameters))


def test_weights_make_the_mean_over_batches_exact(case):
    indices = range(len(case.examples))
    whole = case.batch(indices)
    batches = [case.batch(part) for part in ([0], [1, 2, 3], indices[4:])]
    weights = [batch.weights.sum().item() for batch in batches]
    losses = [case.task.loss(case.outputs(batch), batch).item() for batch in batches]
    assert len(set(weights)) > 1
    assert sum(weights) == whole.weights.sum()
    mean = sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / sum(weights)
    assert mean == pytest.approx(case.task.loss(case.outputs(whole), whole).item(), rel=1e-5)


def test_weights_are_known_without_a_batch(case):
    encoded = case.encoded()
    for indices in ([5, 2, 9], [3], list(range(len(case.examples)))):
        batch = case.task.collate(case.examples, encoded, indices)
        assert (batch.weights.dtype, batch.weights.shape) == (torch.float64, (len(indices),))
        assert case.task.weights(case.examples, encoded, indices).tolist() == batch.weights.tolist()


@pytest.mark.one_in(3, "slow")
@pytest.mark.one_in(2, "exhaustive")
@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weights": True}, {"max_tokens": 6}])
def test_the_loss_is_the_mean_of_the_losses_and_each_is_its_own(case, options):
    """With several rows an example, too: the loss of an example is the same in any company, and alone."""
    fields = {field.name: getattr(case.task, field.name) for field in dataclasses.fields(case.task) if field.init}
    changed = {key: value for key, value in options.items() if key in {*fields, *case.limits._fields}}
    short = {key: changed.pop(key) for key in list(changed) if key in case.limits._fields}
    if changed.pop("class_weights", False):
        changed["class_weights"] = {label: 0.5 + n for n, label in enumerate(case.task.labels)}
    task = type(case.task)(**fields | changed)
    task.bind(case.processor)
    task.learn_labels({"train": []}, case.task.declared_labels)
    encoded = case.encoded(**short)
    batch = task.collate(case.examples, encoded, range(len(case.examples)))
    outputs = case.outputs(batch)
    losses = task.losses(outputs, batch)
    assert losses.shape == batch.weights.shape
    expected = losses.double().sum() / batch.weights.sum()
    torch.testing.assert_close(task.loss(outputs, batch).double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(Task.loss(task, outputs, batch).double(), expected, rtol=1e-6, atol=0)
    for i in range(len(case.examples)):
        alone = task.collate(case.examples, encoded, [i])
        mean = task.loss(case.outputs(alone), alone)
        torch.testing.assert_close(losses[i], (mean * alone.weights.sum()).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("max_tokens", [128, 6])  # and sentences in several rows
def test_padding_and_what_fills_a_batch_up_change_nothing(case, max_tokens):
    """Neither the loss nor its gradient, whether one batch is full and the other is not, nor any answer."""
    encoded = case.encoded(max_tokens=max_tokens)
    static, parameters, padded = StaticShapes(most=64), list(case.model.parameters()), list[int]()
    for indices in (range(5), range(3, 16)):
        plain = case.task.collate(case.examples, encoded, indices)
        assert set(plain.padding) <= {*plain.inputs, *plain.targets}
        filled = static.padded(plain, size=13)
        assert filled.shape[0] == static.height(len(plain.rows), 13)
        losses = [batch.mean(case.task.losses(case.model(**batch.inputs), batch)) for batch in (plain, filled)]
        torch.testing.assert_close(*losses)
        gradients = [torch.autograd.grad(loss, parameters) for loss in losses]
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)
        wide = static.padded(plain)
        assert wide.shape[1] == filled.shape[1] == static.width(plain.shape[1])
        padded.append(wide.shape[1] - plain.shape[1])
        for one, other in zip(case.answers(plain), case.answers(wide), strict=True):
            assert one["predicted"] == up_to_rounding(other["predicted"])
            assert one["probability"] == up_to_rounding(other["probability"])
    assert any(padded)


def test_predictions_are_json_and_tell_of_every_example(case):
    indices = [3, 0, 7]
    batch = case.batch(indices)
    predictions = case.answers(batch)
    assert [prediction["id"] for prediction in predictions] == [case.examples[i].id for i in indices]
    assert all({"id", "input", "gold", "predicted", "probability"} <= prediction.keys() for prediction in predictions)
    assert json.loads(json.dumps(predictions, allow_nan=False)) == predictions


@pytest.mark.parametrize("text", ["Marie Curie moved to Paris.", "", " "])
def test_a_text_without_gold_has_an_answer(case, text):
    example = case.task.from_input(input_of(case.task, text) | {"number": 7}, "text:0")
    encoded = case.encoded([example])
    batch = case.task.collate([example], encoded, [0])
    answer = case.task.reply(example, case.answers(batch, final=True)[0])
    assert answer
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer


@pytest.mark.parametrize("given", [{}, {"number": 7}, {"text": 1}, {"text": None}, {"text": ["a"]}])
def test_what_is_no_text_is_refused(case, given):
    first, *_ = input_of(case.task, "")
    with pytest.raises(DataError, match=f"expected `{first}`.* string"):
        case.task.from_input(given, "text:0")


def test_what_a_run_keeps_is_json_and_more_of_the_same(case):
    batch = case.batch([3, 0, 7])
    predictions = case.answers(batch)
    kept = list(map(case.task.kept, batch.examples, case.answers(batch, final=True)))
    assert all(one.items() > before.items() for one, before in zip(kept, predictions, strict=True))
    more = {"probabilities"} if isinstance(case.task, LabelledTask) else set()
    assert all({"group", *more} <= one.keys() for one in kept)
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept


def test_what_is_not_seen_is_counted_by_example(case):
    long = "truncate"
    whole = case.encoded(long=long, max_tokens=128)
    short = case.encoded(long=long, max_tokens=6)
    assert not any(case.task.all_lost(whole).values())
    assert all(case.task.lost(whole, n) == {} for n in range(len(case.examples)))
    assert any(case.task.all_lost(short).values())
    lost = [case.task.lost(short, n) for n in range(len(case.examples))]
    assert [bool(one) for one in lost] == [bool(one.get("truncated") or one.get("cut_words")) for one in lost]
    assert any(one.get("truncated") is True for one in lost)
    json.dumps(lost)


@pytest.mark.parametrize("metric", ["loss", None])
def test_a_score_has_a_direction(case, metric):
    fields = {field.name: getattr(case.task, field.name) for field in dataclasses.fields(case.task) if field.init}
    selection = type(case.task.selection)(metric=metric or case.task.selection.metric)
    mode = type(case.task)(**fields | {"selection": selection}).selection.mode
    assert mode == case.task.directions[selection.metric] == ("min" if metric else mode)


@pytest.mark.one_in(4, "slow")
def test_an_example_is_predicted_alike_in_any_company(case):
    indices = range(len(case.examples))
    whole = case.batch(indices)
    together = case.answers(whole)
    for i in indices:
        batch = case.batch([i])
        (alone,) = case.answers(batch)
        assert alone["predicted"] == up_to_rounding(together[i]["predicted"])
        assert alone["probability"] == up_to_rounding(together[i]["probability"])


class TestScores:
    def predictions(self, case):
        batch = case.batch(range(len(case.examples)))
        return case.answers(batch)

    def test_what_selects_the_best_is_a_score(self, case):
        assert case.task.selection.metric in {*scores(case.task), "loss"}

    def test_perfect_predictions_have_the_best_score(self, case):
        predictions = self.predictions(case)
        found, best = scores(case.task, predictions), scores(case.task, list(map(perfect, predictions)))
        name = case.task.selection.metric
        assert best[name] == 1 or case.task.selection.mode == "min"
        assert best[name] != found[name]
        assert (best[name] > found[name]) == (case.task.selection.mode == "max")

    def test_batches_add_up(self, case):
        predictions = self.predictions(case)
        mixed = [perfect(p) if n % 2 else p for n, p in enumerate(predictions)]
        assert scores(case.task, mixed) == pytest.approx(scores(case.task, mixed[:3], mixed[3:4], mixed[4:]), rel=1e-6)
        assert scores(case.task, mixed) != scores(case.task, predictions)

    def test_a_reset_forgets(self, case):
        metric = ScorerMetric(case.task.scorer)
        metric.update(self.predictions(case))
        metric.reset()
        metric.update([])
        forgotten = {name: float(value) for name, value in metric.compute().items()}
        assert forgotten == pytest.approx(scores(case.task), nan_ok=True)

    def test_details_hold_the_scores_and_the_report_shows_them(self, case):
        predictions, scorer = self.predictions(case), case.task.scorer
        total = scorer.total(predictions)
        details = scorer.details(total)
        assert details.items() >= scores(case.task, predictions).items()
        assert all(isinstance(value, float) for value in details.values())
        assert f"{details[case.task.selection.metric]:.4f}" in scorer.report(total)
        assert scorer.name
        for columns, rows in scorer.tables(total).values():
            assert {len(row) for row in rows} <= {len(columns)}

    def test_a_scorer_knows_its_scores_before_the_labels(self, case):
        fields = {field.name: getattr(case.task, field.name) for field in dataclasses.fields(case.task) if field.init}
        again = type(case.task)(**fields)
        assert list(again.directions) == [*case.task.scorer.directions, "loss"]
        assert list(case.task.scorer.scores(case.task.scorer.total([]))) == list(case.task.scorer.directions)


def test_equal_texts_have_one_key(case):
    keys = [case.task.text_key(example) for example in case.examples]
    predictions = TestScores().predictions(case)
    parts = ("input", "gold") if isinstance(case.task, RankingTask) else ("input",)  # many items follow one history
    inputs = [json.dumps([prediction[part] for part in parts]) for prediction in predictions]
    assert len(set(keys)) == len(set(inputs)) > 1
    json.dumps(keys)
    assert [case.task.gold(example) for example in case.examples] == [prediction["gold"] for prediction in predictions]


@pytest.mark.one_in(4, "slow")
def test_what_a_run_keeps_is_consistent_and_agrees_with_another_computation(case):
    kept = list(map(case.task.kept, case.batch(range(8)).examples, case.answers(case.batch(range(8)), final=True)))
    read = json.loads(json.dumps(kept))
    again = [case.answers(case.batch([n]))[0] for n in range(8)]
    assert all(case.task.is_consistent(one, case.task.decisions) for one in read)
    assert all(case.task.agree(one, other, 1e-4) for one, other in zip(read, again, strict=True))
    others = [*again[1:], again[0]]
    assert not all(case.task.agree(one, other, 1e-6) for one, other in zip(read, others, strict=True))


def test_decisions_are_json_and_answers_obey_them(case):
    task, batch = case.task, case.batch(range(len(case.examples)))
    if not task.decides:
        pytest.skip("it decides nothing")
    kept = [task.kept(*both) for both in zip(batch.examples, case.answers(batch, final=True), strict=True)]
    read = json.loads(json.dumps(kept))
    decisions = task.decide(iter(read))
    assert decisions == task.decide(iter(read)) == json.loads(json.dumps(decisions, allow_nan=False))
    assert [task.decided(one, {}) for one in read] == read
    try:
        task.decisions = decisions
        obeying = [task.kept(*both) for both in zip(batch.examples, case.answers(batch, final=True), strict=True)]
        assert [task.decided(one, decisions) for one in read] == json.loads(json.dumps(obeying))
        assert all(task.is_consistent(one, decisions) for one in json.loads(json.dumps(obeying)))
    finally:
        task.decisions = {}
    assert json.dumps(task.decide(iter([])))


@pytest.mark.one_in(4, "slow")
def test_what_it_predicts_is_explained_by_the_words_of_an_input(case):
    if case.task.head.of_words:
        pytest.skip("words of several tokens make several rows: tests/unit/tasks/test_prompt.py has one")
    predictor = Predictor(model=case.model, task=case.task, processor=case.processor, max_tokens=64)
    example = predictor.read(input_of(case.task, "Noether moved from Rome"))
    tag = f"{case.task.labels[1]}@0" if case.task.head.outputs == "token" else None  # a random head may find none
    (subject,) = subjects(predictor, example, tag, ["pad"])
    assert "moved" in [word.text for word in subject.words]
    positions = [position for word in subject.words for position in word.positions]
    assert len(positions) == len(set(positions))
    special = set(case.processor.special_ids)
    assert not special & set(subject.inputs["input_ids"][0, positions].tolist())
    assert subject.full == pytest.approx(float(subject.target.score(case.model(**subject.inputs))), abs=1e-5)
    expected = subject.full - subject.empty
    assert abs(expected) > 0
    one = EXPLAINERS["ig"](subject, Settings(steps=200))
    assert one.values.sum() == pytest.approx(expected, rel=0.02, abs=1e-6)
    for name in ("occlusion", "shapley"):
        assert EXPLAINERS[name](subject, Settings(samples=4)).values.shape == (len(subject.words),)
    again = subjects(predictor, example, subject.target.name, ["pad"])[0]
    assert again.target.name == subject.target.name
    assert again.full == pytest.approx(subject.full)


def mixed(models, *weights, **options):
    shares = [weight / sum(weights) for weight in weights]
    return Members(models, Mixture(shares, **options), lambda *args: None)


@torch.no_grad()
def changed(model, by):
    """Return a copy of a model with other weights, for which the batch is as long and its texts are others."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(round(1000 * by))
    for parameter in other.parameters():
        parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return other


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("max_tokens", [128, 10])  # and examples in several rows
def test_one_model_and_equal_ones_mixed_are_the_model_bit_for_bit(case, max_tokens):
    batch = case.batch(range(6), max_tokens=max_tokens)
    alone = case.task.answers(case.outputs(batch), batch, case.model, final=True)
    for members in ([case.model], [case.model, copy.deepcopy(case.model)]):
        model = mixed(members, *[1.0] * len(members))
        with torch.no_grad():
            outputs = case.task.outputs(model, batch)
            assert torch.equal(case.task.losses(outputs, batch), case.task.losses(case.outputs(batch), batch))
            assert case.task.answers(outputs, batch, model, final=True) == alone


@pytest.mark.one_in(4, "slow")
@torch.no_grad()
def test_the_outputs_of_several_models_are_those_of_their_mean_probabilities(case):
    batch, weights = case.batch(range(6)), (0.2, 0.5, 0.3)
    models = [case.model, *(changed(case.model, by) for by in (0.05, 0.1))]
    each = [case.task.outputs(model, batch) for model in models]
    outputs = case.task.outputs(mixed(models, *weights), batch)

    def mean(values):
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    if is_regression := case.task.name == "regression":
        torch.testing.assert_close(outputs.logits, mean([one.logits for one in each]))
    elif case.task.head.problem_type == "multi_label_classification":
        torch.testing.assert_close(outputs.logits.sigmoid(), mean([one.logits.sigmoid() for one in each]))
    else:
        of_each = [case.task.distributions(one, batch) for one in each]
        count = of_each[0].weights > 0
        expected = mean([one.logits.softmax(-1)[count] for one in of_each])
        torch.testing.assert_close(case.task.distributions(outputs, batch).logits.softmax(-1)[count], expected)
    answers = case.task.answers(outputs, batch, mixed(models, *weights), final=True)
    assert len(answers) == 6
    cooled = case.task.outputs(mixed(models, *weights, temperature=2.0), batch)
    if not case.task.generates:
        predicted = [answer["predicted"] for answer in case.task.answers(cooled, batch, case.model, final=True)]
        assert is_regression or predicted == [one["predicted"] for one in answers]
