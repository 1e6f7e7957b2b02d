"""Retrieval: which items are drawn, the corrected softmax over them, and towers over histories."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoTokenizer

from peftlab.data.batching import generator_of
from peftlab.data.interactions import Interactions
from peftlab.errors import ConfigError, DataError
from peftlab.tasks.batch import Batch
from peftlab.tasks.from_examples import Study
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.towers import HistoryTowers, TwoTowers
from peftlab.tasks.processor import Processor
from peftlab.tasks.retrieval import Retrieval
from peftlab.tasks.task import Selection

LIMITS = Limits(40, "truncate")


@pytest.fixture(scope="module")
def processor(tiny_model):
    return Processor("tokenizer", AutoTokenizer.from_pretrained(tiny_model))


@pytest.fixture(scope="module")
def splits(tiny_interactions):
    return Interactions(cold_items=2).read(dict.fromkeys(("train", "test"), tiny_interactions))


def task(splits=None, processor=None, **options):
    made = Retrieval(name="retrieval", selection=Selection(metric="ndcg@10"), **options)
    if splits is not None:
        made.learn_labels(splits, None)
        made.study(splits["train"], Study(0, LIMITS, processor))
    return made


def batch_of(retrieval, splits, processor, indices, epoch=0):
    encoded = retrieval.encode(splits["train"], processor, LIMITS)
    return retrieval.collate(splits["train"], encoded, indices, partial(generator_of, 7, epoch))


def outputs_of(batch):
    """Return embeddings that are a function of the text alone."""
    vectors = [
        torch.randn(8, generator=torch.Generator().manual_seed(int(row.sum()))) for row in batch.inputs["input_ids"]
    ]
    return SimpleNamespace(embeddings=F.normalize(torch.stack(vectors), dim=-1))


def test_negatives_are_drawn_by_the_share_of_items_in_the_training_examples(splits, processor):
    retrieval = task(splits, processor, negatives=200)
    train = splits["train"]
    items = torch.cat([batch_of(retrieval, splits, processor, range(20), e).targets["item"] for e in range(5)])
    drawn = Counter(items.view(-1, 202)[:, 2:].flatten().tolist())
    share = Counter(one.item for one in train)
    assert set(drawn) <= set(share)
    assert not set(drawn) & train[0].catalogue.cold
    for item, count in share.items():
        assert drawn[item] / drawn.total() == pytest.approx(count / len(train), abs=0.01)


def test_a_loss_is_the_corrected_softmax_without_the_users_own_item_among_the_negatives(splits, processor):
    retrieval = task(splits, processor, negatives=30, temperature=0.5)
    batch = batch_of(retrieval, splits, processor, [4, 17])
    outputs = outputs_of(batch)
    counts = Counter(one.item for one in splits["train"])
    own = 0
    for n, loss in enumerate(retrieval.losses(outputs, batch)):
        user, right, *negatives = outputs.embeddings.view(2, 32, 8)[n]
        gold, *drawn = batch.targets["item"].view(2, 32)[n, 1:].tolist()
        logits = {}
        for place, (vector, item) in enumerate(zip([right, *negatives], [gold, *drawn], strict=True)):
            if not place or item != gold:
                share = counts[item] / len(splits["train"])
                logits[place] = float(user @ vector) / 0.5 - np.log(share)
        own += drawn.count(gold)
        assert float(loss) == pytest.approx(np.log(sum(map(np.exp, logits.values()))) - logits[0], rel=1e-5)
    assert own


def test_the_loss_of_an_example_is_the_same_in_any_company(splits, processor):
    retrieval = task(splits, processor)
    together = batch_of(retrieval, splits, processor, [3, 9, 30])
    losses = retrieval.losses(outputs_of(together), together)
    for n, i in enumerate([3, 9, 30]):
        alone = batch_of(retrieval, splits, processor, [i])
        torch.testing.assert_close(retrieval.losses(outputs_of(alone), alone), losses[n : n + 1])
    other = batch_of(retrieval, splits, processor, [3], epoch=1)
    assert other.targets["item"].tolist() != together.targets["item"][:17].tolist()


def test_scores_and_losses_are_in_fp32_whatever_a_model_computes_in(splits, processor):
    """In bf16, a fifth of 500 items or more would have the score of another one."""
    retrieval = task(splits, processor)
    batch = batch_of(retrieval, splits, processor, [3, 9])
    outputs, expected = outputs_of(batch), retrieval.losses(outputs_of(batch), batch)
    model, states = SimpleNamespace(index=nn.Linear(16, 500)), torch.randn(2, 3, 16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(retrieval.losses(outputs, batch), expected)
        scores = TwoTowers.read(model, states.bfloat16(), None).logits
    assert scores.dtype == torch.float32
    assert len(scores[0].unique()) > 490


def test_without_correction_it_is_the_loss_of_sentence_transformers():
    """`MultipleNegativesRankingLoss` (6.2.0, scale=2) of the vectors below, where negatives are the others' items."""
    users = torch.sin(torch.arange(32.0)).view(4, 8)
    items = torch.cos(torch.arange(32.0) * 1.7).view(4, 8) + users
    rows, role, item = [], [], []
    for n in range(4):
        rows += [users[n], items[n], *(items[m] for m in range(4) if m != n)]
        role += [0, 1, 2, 2, 2]
        item += [n, n, *(m for m in range(4) if m != n)]
    targets = {"role": torch.tensor(role), "item": torch.tensor(item), "log_share": torch.zeros(20)}
    batch = Batch({}, targets, torch.ones(4).double(), torch.arange(4).repeat_interleave(5), [], 0)
    embeddings = F.normalize(torch.stack(rows), dim=-1)
    loss = task(temperature=0.5).loss(SimpleNamespace(embeddings=embeddings), batch)
    assert loss.item() == pytest.approx(0.48695310950279236, rel=1e-6)


class TestHistories:
    def towers(self, ids=True, texts=True):
        torch.manual_seed(0)
        towers = HistoryTowers(6, 5, recent=3, size=4, temperature=0.1, dropout=0.0, texts=texts, ids=ids)
        towers.begin(F.normalize(torch.randn(6, 5), dim=-1) if texts else None)
        return towers

    def test_items_are_ranked_by_cosines_with_the_weighted_mean_of_a_history(self):
        towers = self.towers()
        torch.nn.init.normal_(towers.ids.weight)
        torch.nn.init.normal_(towers.places.weight)
        torch.nn.init.normal_(towers.liked_id.weight)
        (scores,) = towers(torch.tensor([[4, 1, 0]]), torch.tensor([True]))
        texts, ids = towers.texts.weight, towers.ids.weight
        items, users = towers.of_item(texts) + ids, towers.of_user(texts) + towers.id_of_user(ids)
        first, second = towers.places.weight[:2, 0].exp()
        user = (first * users[3] + second * users[0]) / (first + second)
        liked = towers.liked_text(texts)[:, 0] + towers.liked_id.weight[:, 0]
        torch.testing.assert_close(scores, F.cosine_similarity(user, items) / 0.1 + liked)

    def test_where_ids_are_dropped_nothing_depends_on_them(self):
        towers, histories = self.towers(), torch.tensor([[2, 3, 0], [2, 3, 0]])
        before = towers(histories, torch.tensor([True, False]))
        torch.testing.assert_close(before[0], before[1])  # they begin at 0
        torch.nn.init.normal_(towers.ids.weight)
        torch.nn.init.normal_(towers.liked_id.weight)
        after = towers(histories, torch.tensor([True, False]))
        assert torch.equal(after[1], before[1])
        assert not torch.allclose(after[0], before[0])

    @pytest.mark.parametrize(("ids", "texts"), [(True, False), (False, True)])
    def test_without_a_history_items_are_ranked_by_how_much_they_are_liked(self, ids, texts):
        towers = self.towers(ids, texts)
        scores = towers(torch.zeros(1, 3, dtype=torch.long), torch.tensor([True]))[0]
        assert scores.isfinite().all()
        torch.testing.assert_close(scores, towers._liked(ids=True))

    def test_the_newest_come_first_and_only_items_trained_on_are_in_the_loss(self, splits, processor):
        retrieval = task(splits, processor, user="history", recent=3, id_dropout=0.5)
        train = splits["train"]
        place = next(n for n, one in enumerate(train) if one.before == 2)
        batch = batch_of(retrieval, splits, processor, [place] * 40)
        assert batch.inputs["history"][0].tolist() == [train[place].history[1] + 1, train[place].history[0] + 1, 0]
        assert 0 < batch_of(retrieval, splits, processor, range(40)).inputs["with_ids"].sum() < 40
        assert len(set(batch.inputs["with_ids"].tolist())) == 1  # by example
        trained = batch.targets["trained"][0]
        assert not trained[list(train[0].catalogue.cold)].any()
        logits = torch.zeros(40, 20)
        expected = np.log(int(trained.sum()))
        assert retrieval.losses(SimpleNamespace(logits=logits), batch).tolist() == pytest.approx([expected] * 40)


def test_answers_leave_out_what_was_had_and_are_consistent(splits, processor):
    retrieval, test = task(splits, processor), splits["test"]
    encoded = retrieval.encode(test, processor, LIMITS)
    batch = retrieval.collate(test, encoded, range(6))
    answers = retrieval.answers(SimpleNamespace(logits=torch.arange(120.0).view(6, 20) % 7), batch, None, True)
    for one, answer in zip(test, answers, strict=False):
        assert not set(answer["predicted"]) & {one.catalogue.items[n] for n in one.history}
        assert answer["candidates"] == 20 - len(set(one.history))
        assert retrieval.is_consistent(answer, {})
        assert not retrieval.is_consistent(answer | {"scores": answer["scores"][::-1]}, {})
        if answer["gold"] in answer["predicted"]:
            assert not retrieval.is_consistent(answer | {"rank": 1 if answer["rank"] > 1 else 9}, {})


def test_what_is_asked_is_a_text_or_a_history(splits, processor):
    known = task(splits, processor)
    assert known.from_input({"history": ["i3", "i4"]}, "x").text(9) == "; ".join(
        splits["train"][0].catalogue.titles[n] for n in (4, 3)
    )
    used = task(user="history")
    used.learn_labels({"train": []}, known.labels)
    assert used.from_input({"history": ["i3"]}, "x").history == (3,)
    for item in ("i99", 3, ["i3"], None):
        with pytest.raises(DataError, match=f"{re.escape(repr(item))} is none of the run's 20"):
            used.from_input({"history": ["i4", item]}, "x")
    with pytest.raises(DataError, match="expected `history`"):
        used.from_input({"text": "a film"}, "x")


def test_other_items_than_those_of_the_run_are_refused(splits):
    with pytest.raises(DataError, match="differ in z"):
        task().learn_labels(splits, ["z", *splits["train"][0].catalogue.items])


def test_drawn_items_are_no_distribution_over_all(splits, processor):
    retrieval = task(splits, processor)
    batch = batch_of(retrieval, splits, processor, [0])
    with pytest.raises(ConfigError, match="compares a user with few items"):
        retrieval.distributions(outputs_of(batch), batch)


def test_what_follows_one_history_is_no_copy_of_something_else_that_does(splits, processor):
    retrieval, one, other = task(splits, processor), *splits["train"][:2]
    again = replace(one, id="test:0", user="another")
    same_history = replace(again, item=other.item)
    assert retrieval.text_key(again) == retrieval.text_key(one) != retrieval.text_key(same_history)
    assert retrieval.title(same_history) == retrieval.title(one)
