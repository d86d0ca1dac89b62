"""What must be true of how processes share a model and its batches: each field acts or is refused."""

from collections.abc import Iterator

from modelyard.spec.check_numbers import at_least
from modelyard.spec.problem import FieldPath, Problem
from modelyard.spec.train import Train


def check_strategy(train: Train, at: FieldPath) -> Iterator[Problem]:
    """What is wrong with `train.strategy` and `train.globalBatchSize`."""
    strategy, share, here = train.strategy, train.strategy.tensor_parallel, (*at, "strategy", "tensorParallel")
    yield from at_least(1, share, here)
    if share > 1:
        for processes in _worlds(train):
            if processes % share:
                message = f"{processes} processes cannot be dealt out in groups of {share}; change train.resources"
                yield Problem(field=here, message=message)
                break
        if strategy.type != "FSDP2":
            yield Problem(field=here, message=f"cannot act under {strategy.type}; write type: FSDP2")
        if strategy.compile:
            message = "cannot act with tensorParallel: torch cannot compile layers that are split"
            yield Problem(field=(*at, "strategy", "compile"), message=message)
    yield from _whole(train, at)


def _whole(train: Train, at: FieldPath) -> Iterator[Problem]:
    whole = train.global_batch_size
    if whole is None:
        if train.resources.elastic is not None:
            message = "is missing: under resources.elastic each number of nodes must see the same updates"
            yield Problem(field=(*at, "globalBatchSize"), message=message)
        return
    yield from at_least(max(1, max(_worlds(train)) // max(1, train.strategy.tensor_parallel)), whole,
                        (*at, "globalBatchSize"))  # fmt: skip
    if train.accumulate != 1:
        message = "cannot act with globalBatchSize, from which it follows how much is accumulated"
        yield Problem(field=(*at, "accumulate"), message=message)


def _worlds(train: Train) -> list[int]:
    """The numbers of processes that a training may have."""
    resources, elastic = train.resources, train.resources.elastic
    nodes = [resources.nodes]
    if elastic is not None:
        nodes = list(range(max(1, elastic.min_nodes), min(elastic.max_nodes, 10_000) + 1)) or nodes
    return [number * max(1, resources.processes_per_node) for number in nodes]
