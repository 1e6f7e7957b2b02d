from __future__ import annotations

import itertools
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from peftlab.data.batching import Division, TrainingBatches, generator_of, in_order_of_length, plan
from peftlab.tasks.batch import Part

LENGTHS = np.random.default_rng(0).integers(3, 60, size=400)


def padding(batches, lengths=LENGTHS):
    return sum(int(max(lengths[batch]) * len(batch) - sum(lengths[batch])) for batch in batches)


def sampler(lengths, batch_size, bucket_batches, seed, division=None):
    plan_of = partial(plan, lengths, batch_size, bucket_batches, seed)
    return TrainingBatches(plan_of, division or Division())


def planned(lengths=LENGTHS, batch_size=8, bucket_batches=10, seed=0, epoch=0):
    return plan(lengths, batch_size, bucket_batches, seed, epoch)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=80),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(0, 2**31),
    st.integers(0, 100),
)
def test_every_example_is_in_one_batch(lengths, batch_size, bucket_batches, seed, epoch):
    batches = plan(lengths, batch_size, bucket_batches, seed, epoch)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    # all are full, but for the last of the last bucket
    full, rest = divmod(len(lengths), batch_size)
    assert sorted(len(batch) for batch in batches) == [rest] * (rest > 0) + [batch_size] * full
    assert batches == plan(lengths, batch_size, bucket_batches, seed, epoch)


def test_it_depends_on_its_arguments_only():
    before = planned(seed=3, epoch=2)
    np.random.seed(1)
    torch.manual_seed(1)
    planned(seed=4)
    assert planned(seed=3, epoch=2) == before


@pytest.mark.parametrize("bucket_batches", [1, 10])
def test_epochs_and_seeds_have_plans_of_their_own(bucket_batches):
    plans = [planned(bucket_batches=bucket_batches, seed=seed, epoch=epoch) for seed in range(3) for epoch in range(3)]
    assert all(plans[a] != plans[b] for a in range(9) for b in range(a))
    # not only the order of the batches changes, but also who meets whom
    companies = [{frozenset(batch) for batch in batches} for batches in plans]
    assert all(len(companies[a] & companies[b]) < len(companies[a]) / 10 for a in range(9) for b in range(a))


def test_sorting_within_buckets_saves_padding():
    unsorted, little, much = (padding(planned(bucket_batches=batches)) for batches in (1, 5, 50))
    assert much < little / 2 < unsorted / 4


def test_batches_do_not_come_in_the_order_of_their_lengths():
    means = [LENGTHS[batch].mean() for batch in planned(bucket_batches=50)]
    assert means != sorted(means)
    assert means != sorted(means, reverse=True)


def test_a_bucket_of_one_batch_is_a_plain_shuffle():
    """Equal to the plan of examples that are all of one length, whose order no sorting changes."""
    assert planned(bucket_batches=1) == planned(np.full(len(LENGTHS), 7), bucket_batches=1)
    assert planned(bucket_batches=10) != planned(np.full(len(LENGTHS), 7), bucket_batches=10)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=80),
    batch_tokens=st.integers(1, 200),
    seed=st.integers(0, 3),
)
def test_a_budget_of_tokens_is_kept_and_filled(lengths, batch_tokens, seed):
    epochs = [plan(lengths, 8, 10, seed, epoch, batch_tokens) for epoch in range(3)]
    for batches in epochs:
        assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
        for batch in batches:
            assert len(batch) * max(lengths[i] for i in batch) <= batch_tokens or len(batch) == 1
        ascending = sorted(batches, key=lambda batch: (lengths[batch[0]], lengths[batch[-1]], -len(batch)))
        for shorter, longer in itertools.pairwise(ascending):  # one example more would have been too much
            assert (len(shorter) + 1) * min(lengths[i] for i in longer) > batch_tokens
    assert len({len(batches) for batches in epochs}) == 1, "Lightning counts the batches of an epoch once"


def test_a_budget_of_tokens_still_shuffles():
    one, other = (plan(LENGTHS, 8, 10, 0, epoch, 128) for epoch in (0, 1))
    assert one != other
    assert {frozenset(batch) for batch in one} != {frozenset(batch) for batch in other}


def test_evaluation_goes_from_the_longest_to_the_shortest():
    batches = in_order_of_length([5, 9, 1, 9, 3], 2)
    assert batches == [[1, 3], [0, 4], [2]]


@pytest.mark.parametrize(("examples", "batch_size"), [(400, 8), (401, 8), (5, 8), (1, 1)])
def test_the_sampler_knows_its_length(examples, batch_size):
    batches = sampler(np.arange(examples), batch_size, 3, 0)
    for epoch in range(3):
        batches.set_epoch(epoch)
        assert len(list(batches)) == len(batches) == -(-examples // batch_size)


def test_the_sampler_follows_the_epoch_that_is_set():
    batches = sampler(LENGTHS, 8, 10, 5)
    assert [part.examples for (part,) in batches] == planned(seed=5, epoch=0)
    assert [part.examples for (part,) in batches] == planned(seed=5, epoch=0)  # a second iteration is no other epoch
    batches.set_epoch(3)
    assert [part.examples for (part,) in batches] == planned(seed=5, epoch=3)


# --- divided ---------------------------------------------------------------------------------------------------------


def ranks(world_size, accumulate=1):
    return [Division(world_size, rank, accumulate) for rank in range(world_size)]


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 5), st.integers(1, 4))
def test_the_parts_of_all_ranks_are_the_batches(lengths, batch_size, world_size, accumulate):
    whole = plan(lengths, batch_size, 4, seed=0, epoch=0)
    samplers = [sampler(lengths, batch_size, 4, 0, division) for division in ranks(world_size, accumulate)]
    parts = [list(sampler) for sampler in samplers]
    assert {len(own) for own in parts} == {len(sampler) for sampler in samplers} == {len(whole)}
    for step, batch in enumerate(whole):
        of_step = [part for own in parts for part in own[step]]
        assert len(of_step) == world_size * accumulate
        assert all(part.batch == batch for part in of_step)
        assert sorted(i for part in of_step for i in part.examples) == sorted(batch)
        sizes = [len(part.examples) for part in of_step]
        assert max(sizes) - min(sizes) <= 1


def test_one_device_gets_the_batches_as_they_are():
    assert Division().of_training_batch([3, 1, 2]) == [Part([3, 1, 2], [3, 1, 2])]


def test_parts_are_of_about_the_same_lengths():
    """A batch is sorted by length; the longest parts would keep the other ranks waiting."""
    for batch in planned(batch_size=32):
        sums = [sum(LENGTHS[part.examples]) for division in ranks(4) for part in division.of_training_batch(batch)]
        longest = [max(LENGTHS[part.examples]) for division in ranks(4) for part in division.of_training_batch(batch)]
        assert max(longest) - min(longest) <= max(LENGTHS[batch]) - min(LENGTHS[batch])
        assert max(sums) - min(sums) <= max(LENGTHS[batch]) - min(LENGTHS[batch])


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 7))
def test_an_evaluation_is_divided_into_whole_batches(lengths, batch_size, world_size):
    batches = in_order_of_length(lengths, batch_size)
    parts = [division.of_evaluation(batches) for division in ranks(world_size)]
    assert len({len(own) for own in parts}) == 1  # or the ranks would wait for each other for ever
    given = [part.examples for own in parts for part in own if part.examples]
    assert sorted(given) == sorted(batches)
    assert all(part.batch for own in parts for part in own)  # a filler has something to be made of


class Indices(Dataset):
    def __getitem__(self, part: list[Part]):
        return [torch.tensor(one.examples) for one in part]

    def __len__(self):
        return len(LENGTHS)


class Recorder(L.LightningModule):
    """Writes down the batches of each epoch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.epochs = {}

    def training_step(self, batch, batch_idx):
        self.epochs.setdefault(self.current_epoch, []).append(batch[0].tolist())
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.slow
def test_lightning_sets_the_epoch():
    loader = DataLoader(Indices(), sampler=sampler(LENGTHS, 8, 10, 1), batch_size=None)
    recorder = Recorder()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(recorder, loader)
    assert recorder.epochs == {epoch: planned(seed=1, epoch=epoch) for epoch in range(3)}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_epoch_goes_on_where_it_was_left(accumulate):
    lengths = np.arange(1, 41)
    batches = sampler(lengths, 4, 5, 3, Division(accumulate=accumulate))
    batches.set_epoch(2)
    whole = list(batches)
    batches.go_on(2, 7)
    batches.set_epoch(2)  # as Lightning does before the first batch
    assert list(batches) == whole[7:]
    assert {len(step) for step in whole} == {accumulate}
    assert len(batches) == len(whole)
    batches.set_epoch(3)
    assert len(list(batches)) == len(whole)


def test_rows_of_split_examples_are_counted_with_their_padding():
    draw = np.random.default_rng(3)
    lengths, rows = draw.integers(4, 33, size=300), np.where(draw.random(300) < 0.2, draw.integers(2, 6, size=300), 1)
    for epoch in range(3):
        batches = plan(lengths, 16, 50, 0, epoch, 128, rows)
        assert sorted(i for batch in batches for i in batch) == list(range(300))
        sizes = [rows[batch].sum() * lengths[batch].max() for batch in batches]
        assert all(size <= 128 for size, batch in zip(sizes, batches, strict=True) if len(batch) > 1)
        assert any(rows[batch].sum() > len(batch) > 1 for batch in batches)


def test_epochs_of_split_examples_have_as_many_batches():
    draw = np.random.default_rng(0)
    rows = np.where(draw.random(60) < 0.5, draw.integers(1, 6, size=60), 1)
    lengths = np.where(rows > 1, 128, draw.integers(4, 129, size=60))
    assert len({len(plan(lengths, 16, 50, 0, epoch, 1024, rows)) for epoch in range(8)}) == 1


def test_where_each_example_is_a_row_the_plan_is_what_it_was():
    lengths = np.random.default_rng(4).integers(4, 33, size=200)
    for tokens in (None, 100, 300):
        assert plan(lengths, 8, 4, 1, 2, tokens) == plan(lengths, 8, 4, 1, 2, tokens, np.ones(200, dtype=int))


def test_random_numbers_are_those_of_the_example():
    draws = {(s, e, i): generator_of(s, e, i).random() for s in range(3) for e in range(3) for i in range(3)}
    assert len(set(draws.values())) == 27
    assert all(generator_of(*key).random() == value for key, value in draws.items())
    assert np.random.default_rng([1, 2]).random() not in draws.values()  # the stream of `plan`
