"""The tests' own control plane: it goes with the run that needed it, and a run without one says so."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.cluster import build

from modelyard.processes import spawn, wait_until

OTHERS = ("KUBEBUILDER", "MODELYARD", "PYTEST")
"""Variables of the run that this test is part of."""

pytestmark = pytest.mark.process


def test_it_ends_with_a_run_that_is_killed_and_leaves_nothing(tmp_path: Path) -> None:
    if os.environ.get("MODELYARD_TEST_KUBECONFIG"):
        pytest.skip("the cluster is not ours")
    try:
        build.programs()
    except build.NotBuilt as reason:
        pytest.skip(f"no Kubernetes API: {reason}")
    run = spawn(["sleep", "600"], log=tmp_path / "run.log")
    home = tmp_path / "home"
    home.mkdir()
    keeper = spawn(
        [sys.executable, "-m", "tests.cluster.keeper", home, str(run.pid)],
        cwd=build.HERE.parents[1],
        log=tmp_path / "keeper.log",
        detached=True,
    )
    try:
        wait_until((home / "plane" / "etcd").exists, deadline_s=60, what="etcd", child=keeper)
        parts = psutil.Process(keeper.pid).children(recursive=True)
        run.stop(grace=0)
        keeper.wait(60)
        gone, alive = psutil.wait_procs(parts, timeout=20)
        assert gone
        assert alive == []
        assert not home.exists()
    finally:
        keeper.stop()


def test_a_run_without_an_api_server_says_so_in_its_last_lines(tmp_path: Path) -> None:
    file = "tests/contract/test_kube.py"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
    told = subprocess.run(
        [sys.executable, "-m", "pytest", file, "-q", "-p", "no:cacheprovider", "-k", "answer_is_a_copy"],
        cwd=build.HERE.parents[1], capture_output=True, text=True, timeout=120, check=False,
        env={**environment, "XDG_CACHE_HOME": str(tmp_path)},
    )  # fmt: skip
    *_, banner, skipped, count = told.stdout.strip().splitlines()
    assert "NOT TESTED AGAINST KUBERNETES" in banner
    assert "1 tests were skipped: no Kubernetes API" in skipped
    assert "2 passed, 1 skipped" in count


def test_what_was_pinned_is_what_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = build.place("etcd")
    assert place.is_relative_to(tmp_path)
    assert build.missing(("etcd",)) == ("etcd",)
    place.parent.mkdir(parents=True)
    place.touch()
    assert build.missing(("etcd",)) == ()
    monkeypatch.setattr(build, "BINARIES", {"etcd": build.Binary("etcd", "another/package")})
    assert build.missing(("etcd",)) == ("etcd",)
