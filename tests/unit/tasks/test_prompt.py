"""Prompts: which tokens stand for a label and where they are read, against language models by hand."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertForMaskedLM

from peftlab.active_learning import observing
from peftlab.errors import ConfigError, DataError
from peftlab.models.backbone import ModelSpec, fetch
from peftlab.sources import FilesSource
from peftlab.tasks import prompt as prompts
from peftlab.tasks.from_examples import Study
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.prompt import Prompt
from peftlab.tasks.prompting.calibration import CONTENT_FREE
from peftlab.tasks.prompting.verbalizer import Verbalizer
from peftlab.tasks.task import Selection
from peftlab.use.explanation.subject import subjects
from peftlab.use.predictor import Predictor

TEMPLATE = "{text} is {answer}"
LABELS = ["move", "report"]
EXAMPLES = [
    Text("train:0", "maria moved to rome", "move"),
    Text("train:1", "the report was read", "report"),
    Text("train:2", "noether moved from paris to rome .", "move"),
    Text("train:3", "a report", "report"),
]
LIMITS = Limits(128, "truncate")


@pytest.fixture(scope="module")
def decoder(language_model):
    return language_model("llama")


@pytest.fixture(scope="module")
def masked_model(tiny_model, tmp_path_factory):
    """The tiny BERT with the head of a masked language model."""
    folder = tmp_path_factory.mktemp("masked")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    return folder


class Case:
    """A task on a model, both as a run has them."""

    def __init__(self, folder, examples=EXAMPLES, labels=LABELS, **options):
        self.examples = examples
        options = {"template": TEMPLATE} | options
        self.task = Prompt(name="prompt", selection=Selection(metric="macro_f1"), **options)
        self.pretrained = fetch(ModelSpec(name="tiny", source=FilesSource(path=folder)), self.task)
        self.processor = self.pretrained.processor("tokenizer")
        self.task.bind(self.processor)
        self.task.learn_labels({"train": []}, labels)
        self.task.study(examples, Study(0, LIMITS, self.processor, self.pretrained.backbone))
        torch.manual_seed(0)
        self.model = self.pretrained.backbone(self.task).eval()

    def batch(self, indices=None, limits=LIMITS):
        encoded = self.task.encode(self.examples, self.processor, limits)
        return self.task.collate(self.examples, encoded, range(len(self.examples)) if indices is None else indices)

    @torch.no_grad()
    def logits(self, indices=None):
        return self.task.outputs(self.model, self.batch(indices)).logits

    def ids(self, text):
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]


def log_p(folder, ids):
    """Return the log probabilities of the next token after each of `ids`, by the plain language model."""
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits[0].log_softmax(-1)


def mean_of(folder, prompt, word):
    """Return the mean log probability of the tokens of `word` after `prompt`."""
    of_all = log_p(folder, [*prompt, *word])
    return float(sum(of_all[len(prompt) - 1 + n, token] for n, token in enumerate(word)) / len(word))


@pytest.mark.slow
def test_words_of_several_tokens_have_the_mean_of_their_log_probabilities(decoder):
    case = Case(decoder)
    words = [case.ids(f" {label}") for label in LABELS]
    assert {len(word) for word in words} != {1}
    prompts = [case.ids(f"{example.text} is") for example in case.examples]
    expected = [[mean_of(decoder, prompt, word) for word in words] for prompt in prompts]
    torch.testing.assert_close(case.logits(), torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_a_decoder_reads_the_space_with_the_word(decoder):
    case = Case(decoder, template="{text} is  {answer}")
    (word, _) = case.task._prompts[0].words
    assert case.ids("is  move")[len(case.ids("is")) :] == list(word.tokens) != case.ids("move")
    (row, *_) = case.batch([0]).inputs["input_ids"].tolist()
    prompt = case.ids("maria moved to rome is")
    assert row[: len(prompt)] == prompt
    assert row[len(prompt) : len(prompt) + len(word.tokens) - 1] == list(word.tokens[:-1])


def test_a_table_of_bigrams_by_hand():
    """Labels of one and of two words, of one and of two tokens, read off the table of a model that sees one token."""
    table = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    about = {
        "kind": "manual",
        "rows": 2,
        "places": [[0, 0, 0], [1, 0, 0], [1, 0, 1]],
        "scored": [[0, 2], [1], [1]],
        "tokens": [[4, 2], [3], [5]],
        "label_of": [0, 0, 1],
        "words": [[4, 3, 5], [2]],
        "calibrated": False,
    }
    states = torch.eye(6)[torch.tensor([[1, 1, 3], [0, 0, 3]])]  # after the prompts 1 and 0; and after the token 3
    found = Verbalizer(about, 6, 2)(states, lambda own: own @ table)
    p = table.softmax(-1)
    for row, prompt in enumerate((1, 0)):
        first = (p[prompt, 4] + (p[prompt, 3] * p[3, 5]).sqrt()) / 2
        torch.testing.assert_close(found[row], torch.stack([first, p[prompt, 2]]).log())


def test_a_masked_model_reads_as_many_masks_as_a_word_has_tokens(masked_model):
    case = Case(masked_model, template="{answer} : {text}", label_words={"move": "moved", "report": "moved from"})
    mask, words = case.processor.tokenizer.mask_token_id, [case.ids("moved"), case.ids("moved from")]
    assert [len(word) for word in words] == [1, 2]
    plain, expected = AutoModelForMaskedLM.from_pretrained(masked_model).eval(), []
    for example in case.examples:
        expected.append([])
        for word in words:
            ids = case.processor.tokenizer(f": {example.text}")["input_ids"]
            ids = [ids[0], *[mask] * len(word), *ids[1:]]
            with torch.no_grad():
                of_all = plain(torch.tensor([ids])).logits[0].log_softmax(-1)
            expected[-1].append(float(sum(of_all[1 + n, token] for n, token in enumerate(word)) / len(word)))
    torch.testing.assert_close(case.logits(), torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_a_mask_in_a_text_is_not_the_place_of_the_answer(masked_model):
    examples = [Text("train:0", "[MASK] moved [MASK]", "move"), Text("train:1", "a report", "report")]
    case = Case(masked_model, examples, template="{text} is {answer} .", label_words={"move": "to", "report": "was"})
    batch = case.batch([0])
    (place,) = batch.inputs["asked"][0].nonzero().flatten().tolist()
    assert batch.inputs["input_ids"][0, place - 1 :].tolist()[:3] == [
        *case.ids("is"),
        case.processor.tokenizer.mask_token_id,
        *case.ids("."),
    ]


@pytest.mark.parametrize("kind", ["manual", "soft", "prototypical"])
def test_halves_and_any_company_give_the_same_losses(decoder, kind):
    case = Case(decoder, template=[TEMPLATE, "{text} : {answer}"], choose="ensemble", verbalizer=kind)
    whole = case.logits()
    for part in ([0, 1], [2, 3], [3], [1, 0]):
        torch.testing.assert_close(case.logits(part), whole[part], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_ensemble_averages_log_probabilities(decoder):
    each = [Case(decoder, template=template).logits() for template in (TEMPLATE, "{text} : {answer}")]
    both = Case(decoder, template=[TEMPLATE, "{text} : {answer}"], choose="ensemble").logits()
    torch.testing.assert_close(both, sum(one.log_softmax(-1) for one in each) / 2, rtol=1e-4, atol=1e-5)


def test_a_soft_verbalizer_begins_as_its_words_and_learns(decoder):
    words = {"move": "a", "report": "b"}
    options = {"template": "{text}\nis:{answer}", "label_words": words}
    manual, soft = (Case(decoder, verbalizer=kind, **options) for kind in ("manual", "soft"))
    torch.testing.assert_close(soft.logits(), manual.logits(), rtol=1e-4, atol=1e-5)
    own = {name: p.shape for name, p in soft.model.named_parameters() if "verbalizer" in name}
    assert own == {"verbalizer.vectors.weight": (2, 32)}
    assert not [name for name, _ in manual.model.named_parameters() if "verbalizer" in name]
    batch = soft.batch()
    soft.task.loss(soft.model(**batch.inputs), batch).backward()
    assert soft.model.verbalizer.vectors.weight.grad.abs().sum() > 0


def test_a_prototypical_verbalizer_is_a_softmax_over_cosines(decoder):
    case = Case(decoder, verbalizer="prototypical")
    hidden = []
    model = AutoModelForCausalLM.from_pretrained(decoder).eval()
    for example in case.examples:
        ids = torch.tensor([case.ids(f"{example.text} is")])
        hidden.append(model(ids, output_hidden_states=True).hidden_states[-1][0, -1])
    table = model.get_output_embeddings().weight
    prototypes = torch.stack([table[case.ids(f" {label}")].mean(0) for label in LABELS])
    cosines = torch.nn.functional.cosine_similarity(torch.stack(hidden)[:, None], prototypes[None], dim=-1)
    torch.testing.assert_close(case.logits(), 20 * cosines.detach(), rtol=1e-3, atol=1e-4)
    states, verbalizer = torch.stack(hidden)[:, None], case.model.verbalizer
    expected = verbalizer(states, None)
    with torch.autocast("cpu", torch.bfloat16):  # in which cosines would be rounded
        assert torch.equal(verbalizer(states, None), expected)


@pytest.mark.parametrize("kind", ["contextual", "domain", "batch"])
def test_calibration_divides_by_what_texts_without_content_are_given(decoder, kind):
    case = Case(decoder, calibration=kind)
    raw = case.logits()
    case.task.fit_head(case.model, ())
    if kind == "contextual":
        others = [Text(f"x:{n}", text, None) for n, text in enumerate(CONTENT_FREE)]
        own = Case(decoder, others).logits().softmax(-1).mean(0)
        torch.testing.assert_close(case.logits(), raw - own.log(), rtol=1e-4, atol=1e-5)
    if kind == "batch":
        torch.testing.assert_close(case.logits(), raw - raw.softmax(-1).mean(0).log(), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(case.logits(), raw)
    fitted = case.logits()
    case.task.fit_head(case.model, ())
    torch.testing.assert_close(case.logits(), fitted)  # again from nothing
    case.model.train()  # without dropout
    torch.testing.assert_close(case.logits(), raw)


def test_texts_are_cut_and_then_demonstrations_left_out_and_nothing_else(decoder):
    long = Text("train:9", "moved to rome " * 20, "move")
    case = Case(decoder, [*EXAMPLES, long], demonstrations=2)
    shown = case.task.shown
    assert {one["label"] for one in shown} == {*LABELS}
    tokenizer = case.processor.tokenizer
    kept = []
    for most in (200, 150, 110, 60, 40):
        encoded = case.task.encode([long], case.processor, Limits(most, "truncate"))
        assert encoded.lengths.max() <= most
        rows = case.task.collate([long], encoded, [0]).inputs["input_ids"]
        text = tokenizer.decode(rows[0], skip_special_tokens=True)
        assert " is" in text[-14:]  # and the beginning of a word, in other rows
        kept.append((text.count("\n\n"), int(encoded.arrays["truncated"][0])))
        assert encoded.counts["dropped_demonstrations"] == sum(one["text"] != long.text for one in shown) - kept[-1][0]
    assert [count for count, _ in kept] == sorted((count for count, _ in kept), reverse=True)
    assert kept[0][0] > kept[-1][0] == 0
    assert kept[-1][1] > 0
    assert case.task.lost(encoded, 0)["truncated"] is True
    with pytest.raises(DataError, match=r"data.max_tokens=5 leaves no room for a text beside the template"):
        case.task.encode([long], case.processor, Limits(5, "truncate"))


def test_no_example_reads_its_own_label_among_the_demonstrations(decoder):
    case = Case(decoder, demonstrations=3)
    tokenizer, batch = case.processor.tokenizer, case.batch()
    first = [batch.rows.tolist().index(n) for n in range(4)]
    texts = [tokenizer.decode(batch.inputs["input_ids"][row], skip_special_tokens=True) for row in first]
    shown = {one["text"] for one in case.task.shown}
    assert [text.count("\n\n") for text in texts] == [3 - (one.text in shown) for one in EXAMPLES]
    assert all(text.count(example.text) == 1 for text, example in zip(texts, EXAMPLES, strict=True))


def test_the_encoding_says_what_it_depends_on(decoder):
    case = Case(decoder, demonstrations=1)
    other = copy.copy(case.task)
    before = {name: getattr(other, name) for name in other.encoded_by}
    other.shown = [{"text": "other", "pair": None, "label": "move"}]
    assert {name for name, value in before.items() if getattr(other, name) != value} == {"shown"}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cv", "mdl"])
def test_a_template_is_chosen_by_the_shots_alone(decoder, how):
    templates = ["{text} : {answer}", TEMPLATE, "{text} was {answer}"]
    case = Case(decoder, template=templates, choose=how, demonstrations=2)
    scores = case.task.facts()["choice"]["by"]
    assert [one["template"] for one in scores] == templates
    assert case.task.labels_read(case.examples) == case.task.facts()["choice"]["labels"] == 4
    key = (lambda one: (-one["accuracy"], one["bits"])) if how == "cv" else (lambda one: one["bits"])
    assert case.task.used == [min(scores, key=key)["template"]]
    assert case.task.settled()["chosen"] == templates.index(case.task.used[0])
    if how == "mdl":  # without demonstrations, the labels are described one by one
        plain = Case(decoder, template=templates, choose=how)
        for template, one in zip(templates, plain.task.facts()["choice"]["by"], strict=True):
            logits = Case(decoder, template=template).logits().log_softmax(-1)
            bits = -logits[torch.arange(4), torch.tensor([0, 1, 0, 1])].sum() / math.log(2)
            assert one["bits"] == pytest.approx(float(bits), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 2])
def test_a_choice_is_calibrated_to_what_each_fold_is_shown(decoder, count, monkeypatch):
    asked, scored = [], prompts._scored

    def noted(task, model, examples, about):
        asked.append((examples[0].id.partition(":")[0], [one["text"] for one in task.shown or ()]))
        return scored(task, model, examples, about)

    monkeypatch.setattr(prompts, "_scored", noted)
    templates = [TEMPLATE, "{text} : {answer}"]
    Case(decoder, template=templates, choose="cv", demonstrations=count, calibration="contextual")
    fits = [shown for kind, shown in asked if kind == "contextual"]
    judged = [shown for kind, shown in asked if kind == "train"]
    assert len(judged) == 8  # two templates, four folds of one example
    assert fits == (judged if count else [[], []])


def test_calibration_bears_labels_of_no_probability(decoder):
    case = Case(decoder, calibration="contextual")
    head = case.model.verbalizer
    forward = head.forward
    head.forward = lambda *args: forward(*args) - torch.tensor([0.0, 1e4])
    case.task.fit_head(case.model, ())
    assert head.shift.isfinite().all()


def test_queries_of_embeddings_see_all_places_of_an_answer(decoder):
    case = Case(decoder)
    batch = case.batch()
    with torch.no_grad(), observing._reading(case.model) as read:
        logits = case.task.outputs(case.model, batch).logits
    size, places = case.model.get_output_embeddings().weight.shape[1], len(case.model.verbalizer.places)
    assert observing._embeddings(read, logits, batch).shape == (4, places * size)


def test_draws_with_dropout_are_calibrated_as_answers_are(decoder):
    case = Case(decoder, calibration="contextual")  # the tiny model has no dropout
    with torch.no_grad():
        case.model.verbalizer.shift.copy_(torch.tensor([3.0, -3.0]))
    plain = case.logits()
    with observing._as_in_training(case.model, [0]):
        assert torch.equal(case.logits(), plain)
    assert not case.model.verbalizer.training


def test_an_explanation_is_of_one_row(decoder):
    case = Case(decoder, template="{text}\nis:{answer}", label_words={"move": "a", "report": "b"})
    predictor = Predictor(model=case.model, task=case.task, processor=case.processor)
    (subject,) = subjects(predictor, Text("x", "Noether moved", None), None, ["pad"])
    assert "moved" in [word.text for word in subject.words]
    assert subject.full == pytest.approx(float(subject.target.score(case.model(**subject.inputs))), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_words": {"move": "go"}}, "the label 'report' has no word"),
        ({"label_words": {"move": "go", "reprot": "x"}}, "'reprot' is no label. Did you mean 'report'"),
        ({"label_words": {"move": "go", "report": "go"}}, "'go' of the label 'move' and 'go' of 'report' are the same"),
        (
            {"label_words": {"move": "go", "report": "gone"}, "multi_token": "first"},
            "'go' of the label 'move' and 'gone' of 'report' begin with the same token to this model",
        ),
        ({"multi_token": "refuse"}, r"'move' is \d tokens, .*Choose words of one token"),
        ({"label_words": {"move": " ", "report": "x"}}, "has no token"),
        ({"demonstrations": 9}, "there are 4 labelled training examples"),
        ({"template": [TEMPLATE, "{text} : {answer}"]}, "task.choose=none: task.template has 2"),
        ({"choose": "cv"}, "task.choose=cv: task.template has 1"),
        ({"shown": [{"text": "a", "pair": None, "label": "move"}]}, "task.shown lists 1 examples: set task.demonstra"),
        (
            {"demonstrations": 1, "shown": [{"text": "a", "pair": None, "label": "mov"}]},
            "task.shown: 'mov' is no label. Did you mean 'move'?",
        ),
        ({"template": "{text} is {answer} ."}, "follows the answer, and a decoder"),
    ],
)
def test_what_cannot_be_asked_is_refused(decoder, options, message):
    with pytest.raises(ConfigError, match=message):
        Case(decoder, **options)


@pytest.mark.slow
def test_pairs_need_a_place_for_both_texts(decoder):
    pair = Text("train:0", "a", "move", pair="b", file="f.csv", line=2)
    with pytest.raises(DataError, match=r"f.csv.*is a pair, and the template has no \{pair\}"):
        Case(decoder, [pair]).batch()
    with pytest.raises(DataError, match=r"is one text, and the template has \{pair\}"):
        Case(decoder, template="{text} {pair} {answer}").batch()
    case = Case(decoder, [pair], template="{text} so {pair} ? {answer}")
    assert case.processor.tokenizer.decode(case.batch().inputs["input_ids"][0]).startswith("a so b ?")


def test_models_that_neither_continue_nor_fill_are_refused(language_model, decoder):
    task = Case(decoder).task
    with pytest.raises(ConfigError, match="the model neither continues a text nor fills a mask in it"):
        task.bind(Processor("tokenizer", AutoTokenizer.from_pretrained(language_model("t5")), 0, "encoder-decoder"))


def test_what_fills_a_batch_up_has_no_loss(decoder):
    case = Case(decoder)
    batch = case.batch([0])
    outputs = SimpleNamespace(logits=torch.zeros(1, 2))
    batch.weights = torch.cat([batch.weights, torch.zeros(2, dtype=torch.float64)])
    batch.targets["labels"] = batch.targets["labels"].expand(3)
    assert np.allclose(case.task.losses(outputs, batch).tolist(), math.log(2))
