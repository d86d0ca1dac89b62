"""Which examples meet in which step."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.training import plan

LENGTHS = st.lists(st.integers(0, 30), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, world=st.integers(1, 4), size=st.integers(1, 9), epoch=st.integers(0, 5))
def test_each_example_is_seen_at_most_once_and_none_but_a_small_rest_is_left_out(lengths, world, size, epoch):
    steps = list(plan.batches(lengths, seed=7, epoch=epoch, world=world, size=size))
    seen = [int(place) for step in steps for place in step.ravel()]
    assert len(seen) == len(set(seen))
    assert set(seen) <= set(range(sum(lengths)))
    assert sum(lengths) - len(seen) < world * min(2, size)
    assert [step.shape for step in steps] == [(world, n) for n in plan.sizes(lengths, world=world, size=size)]


@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS, epoch=st.integers(0, 5))
def test_the_order_does_not_depend_on_the_number_of_processes(lengths, epoch):
    def flat(world: int) -> list[int]:
        steps = plan.batches(lengths, seed=1, epoch=epoch, world=world, size=8 // world)
        return [int(place) for step in steps for place in step.ravel()]

    one, four = flat(1), flat(4)
    assert one[: len(four)] == four[: len(one)]


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [
        np.concatenate(list(plan.order([50, 50], seed=seed, epoch=epoch))).tolist()
        for seed, epoch in itertools.product((1, 2), (0, 1))
    ]
    assert len({tuple(order) for order in orders}) == 4


def test_mixing_stays_within_a_window_of_few_shards():
    """Memory is bounded by the window: a window's examples come from so many shards at the most."""
    for window in plan.order([10] * 20, seed=0, epoch=0):
        assert len({int(place) // 10 for place in window}) <= plan.WINDOW


def test_the_last_step_never_leaves_a_process_with_one_example():
    """Batch norm has no variance of one example."""
    assert plan.sizes([17], world=2, size=8) == [8]
    assert plan.sizes([20], world=2, size=8) == [8, 2]
    assert plan.sizes([3], world=1, size=1) == [1, 1, 1]


@given(count=st.integers(0, 50), world=st.integers(1, 5), size=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_validation_deals_every_example_to_exactly_one_process(count, world, size):
    shares = [list(plan.share(count, rank=rank, world=world, size=size)) for rank in range(world)]
    dealt = [int(place) for each in shares for group, counts in each if counts for place in group]
    assert sorted(dealt) == list(range(count))
    assert len({len(each) for each in shares}) == 1, "a sharded model's forward needs all processes"
    assert all(0 <= place < count for each in shares for group, _ in each for place in group)


def test_seeds_of_updates_differ_by_update_and_process():
    seeds = {plan.update_seed(0, update=update, rank=rank) for update in range(200) for rank in range(8)}
    assert len(seeds) == 1600
    assert all(0 <= seed < 2**64 for seed in seeds)


@pytest.mark.parametrize("seed", [0, 2**40])
def test_seeds_are_a_pure_function(seed):
    assert plan.update_seed(seed, update=3, rank=1) == plan.update_seed(seed, update=3, rank=1)


def parts_of(lengths, *, world: int, size: int, whole: int, epoch: int = 0):
    """Every process's parts of each update."""
    cut = plan.Cut(world=world, size=size, whole=whole)
    return list(zip(*(cut.updates(lengths, seed=3, epoch=epoch, rank=rank) for rank in range(world)), strict=True))


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(lambda lengths: sum(lengths) >= 12),
    world=st.integers(1, 5), size=st.integers(1, 9), whole=st.integers(5, 12),
)  # fmt: skip
def test_any_number_of_processes_sees_the_same_updates_each_example_with_the_same_weight(lengths, world, size, whole):
    alone = parts_of(lengths, world=1, size=100, whole=whole)
    shared = parts_of(lengths, world=world, size=size, whole=whole)
    assert len(alone) == len(shared) == sum(lengths) // whole
    for one, many in zip(alone, shared, strict=True):
        counted = [part for parts in many for part in parts if part.weight]
        assert sorted(place for part in counted for place in part.places) == sorted(one[0][0].places)
        assert all(len(part.places) <= size for part in counted)
        assert len({len(parts) for parts in many}) == 1, "each pass of a sharded model needs all processes"
        for part in counted:  # gradients are averaged over processes
            assert part.weight / world / len(part.places) == pytest.approx(1 / whole)


@settings(max_examples=60, deadline=None)
@given(
    lengths=LENGTHS, world=st.integers(1, 4), size=st.integers(1, 9), accumulate=st.integers(1, 4),
    whole=st.none() | st.integers(4, 20),
)  # fmt: skip
def test_what_was_taken_is_counted_as_the_updates_take_it(lengths, world, size, accumulate, whole):
    cut = plan.Cut(world=world, size=size, accumulate=accumulate, whole=whole)
    processes = [list(cut.updates(lengths, seed=1, epoch=2, rank=rank)) for rank in range(world)]
    sizes = [
        sum(len(part.places) for parts in update for part in parts if part.weight)
        for update in zip(*processes, strict=True)
    ]
    assert list(itertools.accumulate(sizes)) == list(cut.taken(sum(lengths)))
