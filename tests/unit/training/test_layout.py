"""Processes that share layers, and those that share data."""

import pytest

from modelyard.errors import BadInput
from modelyard.spec.train import TrainStrategy
from modelyard.training.layout import layout_of

TENSOR = TrainStrategy(type="FSDP2", tensor_parallel=2)


def test_neighbours_share_layers_and_see_the_same_examples():
    places = [layout_of(TENSOR, rank=rank, world=4) for rank in range(4)]
    assert [place.data_rank for place in places] == [0, 0, 1, 1]
    assert {place.data_world for place in places} == {2}


REFUSED = {
    "processes that it does not divide": (TENSOR, 3, "3 processes cannot be dealt out in groups of 2"),
    "DDP": (TrainStrategy(tensor_parallel=2), 2, "cannot act under DDP"),
    "no process at all": (TrainStrategy(type="FSDP2", tensor_parallel=0), 2, "groups of 0"),
}


@pytest.mark.parametrize(("strategy", "world", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_layers_cannot_be_shared_by(strategy, world, told):
    with pytest.raises(BadInput, match=told):
        layout_of(strategy, rank=0, world=world)
