"""Answers in texts: what is read off the logits, what is decided, and what a fault would change."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer

from peftlab.errors import ConfigError, DataError
from peftlab.scores.squad import answer_scores
from peftlab.tasks.extractive_qa import ExtractiveQa
from peftlab.tasks.inputs.questions import Answer, Question
from peftlab.tasks.limits import Limits
from peftlab.tasks.outputs.spans import OUTSIDE
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Selection

CONTEXT = "maria moved from paris to rome . nothing happened today ."


@pytest.fixture(scope="module")
def processor(tiny_model):
    return Processor("tokenizer", AutoTokenizer.from_pretrained(tiny_model))


def task(metric="f1", **options):
    return ExtractiveQa(name="qa", selection=Selection(metric=metric), **options)


def asked(answer=None, context=CONTEXT):
    answers = None if answer is None else (Answer(answer, context.index(answer)),) if answer else ()
    return Question("test:0", "today", context, answers)


def batch_of(qa, processor, *questions, max_tokens=24):
    encoded = qa.encode(questions, processor, Limits(max_tokens, "split"))
    return qa.collate(questions, encoded, range(len(questions)))


def outputs_of(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(2, *batch.inputs["input_ids"].shape, generator=generator) * 3
    return SimpleNamespace(start_logits=both[0], end_logits=both[1])


def every_span(qa, batch, outputs, row):
    """Yield the characters and the score of every span of a window."""
    places = batch.host["characters"][row].tolist()
    own = [n for n, (start, _) in enumerate(places) if start >= 0]
    for first in own:
        for last in own:
            if first <= last < first + qa.max_answer_tokens:
                score = float(outputs.start_logits[row, first] + outputs.end_logits[row, last])
                yield (places[first][0], places[last][1]), score


def test_the_best_spans_are_those_of_trying_each_of_every_window(processor):
    for no_answer in (False, True):
        qa = task(stride=8, n_best=4, max_answer_tokens=5, no_answer=no_answer, null_threshold=-1e6 if no_answer else 0)
        batch = batch_of(qa, processor, asked(), asked(context="paris said"), asked(), max_tokens=12)
        outputs = outputs_of(batch)
        answers = qa.answers(outputs, batch, None, final=True)
        assert len(batch.rows) > 4
        for n, answer in enumerate(answers):
            rows = (batch.rows == n).nonzero().flatten().tolist()
            scores: dict[tuple[int, int], float] = {}
            for row in rows:
                for span, score in every_span(qa, batch, outputs, row):
                    scores[span] = max(score, scores.get(span, score))
            best = sorted(scores, key=lambda span: -scores[span])[:4]
            spans = [each for each in answer["n_best"] if each["start"] is not None]
            assert [(each["start"], each["end"]) for each in spans] == best
            candidates = batch.targets["candidates"][rows]
            partition = sum(
                torch.logsumexp(logits[rows][candidates], 0) for logits in (outputs.start_logits, outputs.end_logits)
            )
            expected = torch.exp(torch.tensor([scores[span] for span in best]) - partition).tolist()
            assert [each["probability"] for each in spans] == pytest.approx(expected, rel=1e-5)
            if no_answer:
                null = min(float(outputs.start_logits[row, 0] + outputs.end_logits[row, 0]) for row in rows)
                assert answer["null_margin"] == pytest.approx(null - scores[best[0]], rel=1e-5)
                assert answer["predicted"] == ""
            (shorter,) = (qa.answers(outputs, batch, None, final=False)[n],)
            assert shorter == {key: value for key, value in answer.items() if key != "n_best"}


def test_the_loss_is_that_of_the_tokens_of_the_text(processor):
    """As transformers computes it, but for the tokens that are no candidates."""
    qa = task()
    batch = batch_of(qa, processor, asked("rome"), max_tokens=60)
    outputs = outputs_of(batch)
    own = batch.targets["candidates"][0]
    losses = [
        torch.nn.functional.cross_entropy(
            logits[0][own][None], batch.targets["bounds"][:, end] - int(own.int().argmax())
        )
        for end, logits in enumerate((outputs.start_logits, outputs.end_logits))
    ]
    torch.testing.assert_close(qa.losses(outputs, batch), (sum(losses) / 2)[None])
    distributions = qa.distributions(outputs, batch)
    entropy = -distributions.logits.log_softmax(-1).gather(-1, distributions.gold[..., None])[..., 0]
    torch.testing.assert_close(distributions.by_example(entropy, batch), qa.losses(outputs, batch))
    assert (distributions.logits[0, 0][~own] == OUTSIDE).all()


def test_a_question_without_an_answer_is_refused_where_none_is_expected():
    with pytest.raises(DataError, match=r"test:0: the text has no answer.*task.no_answer=true"):
        task().learn_labels({"test": [asked("")]}, None)
    task(no_answer=True).learn_labels({"test": [asked("")]}, None)
    with pytest.raises(ConfigError, match="has no labels"):
        task().learn_labels({"train": []}, ["a"])


def test_white_space_is_no_part_of_an_answer(processor):
    """Some tokenizers count the space before a word to it."""
    qa = task()
    batch = batch_of(qa, processor, asked(context="paris  rome"), max_tokens=60)
    (places,) = batch.host["characters"]
    first = int((places[:, 0] >= 7).argmax())
    places[first][0] = 5
    outputs = outputs_of(batch)
    outputs.start_logits[0, first] = outputs.end_logits[0, len(places) - 2] = 100
    (answer,) = qa.answers(outputs, batch, None, final=True)
    assert (answer["predicted"], answer["start"]) == ("rome", 7)


def test_a_text_without_a_token_has_no_answer(processor):
    for no_answer in (False, True):
        qa = task(no_answer=no_answer)
        batch = batch_of(qa, processor, asked(context=" "))
        for final in (False, True):
            (answer,) = qa.answers(outputs_of(batch), batch, None, final)
            assert (answer["predicted"], answer["start"]) == ("", None)
            assert answer.get("null_margin") is None


class TestDecisions:
    def answers(self, qa, processor):
        golds = ["rome", "", "paris", "", "today", "", None]
        batch = batch_of(qa, processor, *map(asked, golds))
        return [qa.answers(outputs_of(batch, seed), batch, None, final=True) for seed in range(6)], batch

    def test_the_threshold_is_the_best_and_answers_obey_it(self, processor):
        for metric, place in (("exact_match", 0), ("f1", 1), ("loss", 1)):
            qa = task(metric, no_answer=True)
            assert qa.decides
            several, batch = self.answers(qa, processor)
            kept = [answer for answers in several for answer in answers]
            decisions = qa.decide(iter(kept))

            def score(threshold, qa=qa, kept=kept, place=place):
                decided = [qa.decided(each, {"null_threshold": threshold}) for each in kept if each["gold"] is not None]
                return sum(answer_scores(each["predicted"], each["gold"])[place] for each in decided)

            every = [each["null_margin"] + by for each in kept for by in (-1e-3, 1e-3)]
            assert score(decisions["null_threshold"]) == pytest.approx(max(map(score, every)))
            qa.decisions = decisions
            again = [qa.answers(outputs_of(batch, seed), batch, None, final=True) for seed in range(6)]
            assert [answer for answers in again for answer in answers] == [qa.decided(each, decisions) for each in kept]
            assert all(qa.is_consistent(qa.decided(each, decisions), decisions) for each in kept)

    def test_no_evidence_leaves_it_at_zero(self):
        assert task(no_answer=True).decide([]) == {"null_threshold": 0}

    def test_a_threshold_that_is_set_is_not_learnt(self, processor):
        qa = task(no_answer=True, null_threshold=1e6)
        assert not qa.decides
        assert not task().decides
        several, _ = self.answers(qa, processor)
        assert all(answer["predicted"] for answers in several for answer in answers)
        qa = task(no_answer=True, null_threshold=-1e6)
        several, _ = self.answers(qa, processor)
        assert not any(answer["predicted"] for answers in several for answer in answers)

    def test_what_contradicts_the_n_best_is_told(self, processor):
        qa = task(no_answer=True)
        answer = self.answers(qa, processor)[0][0][0]
        assert qa.is_consistent(answer, {})
        assert not qa.is_consistent({**answer, "predicted": "rome ."}, {})
        assert not qa.is_consistent(
            answer, {"null_threshold": answer["null_margin"] + (1 if not answer["predicted"] else -1)}
        )

    def test_rounding_may_tip_an_answer_at_the_threshold_alone(self):
        qa = task(no_answer=True)
        qa.decisions = {"null_threshold": 2.0}
        one = {"predicted": "", "probability": 0.9, "null_margin": 2.001}
        other = {"predicted": "rome", "probability": 0.1, "null_margin": 1.999}
        assert qa.agree(one, other, 1e-3)
        assert not qa.agree(one, other | {"null_margin": 1.99}, 1e-3)
        assert not qa.agree(one, other, 1e-5)
        assert qa.agree(one, dict(one), 1e-5)
