"""`train.resources`: each field of a cluster acts or is refused."""

from typing import Any

import pytest

from modelyard.spec.check_resources import check_resources
from modelyard.spec.problem import dotted
from modelyard.spec.train import Checkpoints, Elastic, TrainResources
from modelyard.units import Duration, Quantity

CLAIM = Checkpoints(claim="checkpoints")
REFUSED = {
    "GPUs for another number of processes": ({"gpus": 8}, "gpus", "8 GPUs for 1 processesPerNode"),
    "fewer than no GPUs": ({"gpus": -1}, "gpus", "-1 is less than 0"),
    "a GPU's type without GPUs": ({"gpu_type": "T4"}, "gpuType", "cannot act without gpus"),
    "an image that is none": ({"image": "a b"}, "image", "is no image"),
    "no memory": ({"memory": Quantity("0")}, "memory", "nothing at all"),
    "more shared memory than memory": (
        {"shm": Quantity("2Gi"), "memory": Quantity("1Gi")}, "shm", "2Gi > memory 1Gi, of which it is a part",
    ),
    "a deadline of nothing": ({"deadline": Duration("0s")}, "deadline", "no time at all"),
    "several nodes without a claim": ({"nodes": 2}, "checkpoints.claim", "each of several nodes writes a part"),
    "elastic without a claim": (
        {"elastic": Elastic(min_nodes=1, max_nodes=2)}, "elastic", "needs checkpoints.claim",
    ),
    "elastic around another number": (
        {"elastic": Elastic(min_nodes=2, max_nodes=4), "checkpoints": CLAIM}, "elastic", "nodes 1 is not from",
    ),
    "elastic that cannot move": (
        {"elastic": Elastic(min_nodes=1, max_nodes=1), "checkpoints": CLAIM}, "elastic", "cannot act",
    ),
    "a name that is none": ({"queue": "Team A"}, "queue", "is no name in Kubernetes"),
    "a label that is none": ({"node_selector": {"a b": "c"}}, "nodeSelector.a b", "is no label"),
    "a topology that is no label": ({"topology": "a b"}, "topology", "is no label"),
    "a toleration of something else": ({"tolerations": ({"taint": "a"},)}, "tolerations.0", "has no taint"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_at_its_field(case: str) -> None:
    changes, field, said = REFUSED[case]
    told = {dotted(one.field): one.message for one in check_resources(TrainResources(**changes), ())}
    assert said in told[field], told


@pytest.mark.parametrize(
    "changes",
    [{}, {"gpus": 8, "processes_per_node": 8, "gpu_type": "T4"}, {"nodes": 4, "checkpoints": CLAIM},
     {"tolerations": ({"key": "a", "operator": "Exists"},), "node_selector": {"example.com/pool": "b"}}],
    ids=["nothing", "GPUs", "nodes with a claim", "places"],
)  # fmt: skip
def test_what_can_act_is_taken(changes: dict[str, Any]) -> None:
    assert list(check_resources(TrainResources(**changes), ())) == []
