"""A training that was killed and resumed ends with the bits of the unbroken one."""

import os
import signal

import pytest
from tests.fakes.trainings import with_resources
from tests.integration.training.running import finished

pytestmark = pytest.mark.process

CASES = {
    "two ranks, batch norm, dropout, augmentation": {"processes_per_node": 2},
    "four ranks with loader workers": {"processes_per_node": 4, "loader_workers": 1},
    "one process": {"processes_per_node": 1},
    "two ranks of two threads": {"processes_per_node": 2, "threads_per_process": 2},
}
BETWEEN = {
    "two ranks whose data comes from loader workers": {"processes_per_node": 2, "loader_workers": 1},
    "four ranks": {"processes_per_node": 4},
}
if os.environ.get("HYPOTHESIS_PROFILE") == "nightly":
    CASES |= BETWEEN


@pytest.mark.parametrize("resources", CASES.values(), ids=CASES.keys())
def test_a_run_killed_at_several_steps_and_resumed_ends_with_equal_weights(job, start, tmp_path, resources):
    job = with_resources(job, **resources)
    unbroken = start(job, tmp_path / "unbroken")
    assert unbroken.until_ended() == {}
    expected = finished(tmp_path / "unbroken")

    broken = tmp_path / "broken"
    first = start(job, broken)
    first.until_step(2)
    first.kill()
    second = start(job, broken)
    second.until_step(expected["steps"] // 2)
    os.kill(second.ranks()[-1].pid, signal.SIGKILL)
    second.until_ended()
    third = start(job, broken)
    assert third.until_ended() == {}
    ended = finished(broken)
    assert ended["digest"] == expected["digest"]
    without_time = [
        [{k: v for k, v in e.items() if k != "seconds"} for e in one["epochs"]] for one in (ended, expected)
    ]
    assert without_time[0] == without_time[1]
