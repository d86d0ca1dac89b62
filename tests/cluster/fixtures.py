"""A real Kubernetes API for the tests that ask for it: one for the whole run, a namespace for each test.

Where it comes from, in this order:

1. `MODELYARD_TEST_KUBECONFIG`: a cluster that is there. Our definitions are applied to it, namespaces come and go.
2. `KUBEBUILDER_ASSETS`: a folder with etcd and kube-apiserver.
3. the cache that `make cluster` fills (`tests.cluster.build`).

Where there is none of them, the tests are skipped, and the last lines of the run say so.
"""

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import pytest
from tests.cluster import build

from modelyard.errors import NotInstalled
from modelyard.kube.port import NAMESPACE, Kind
from modelyard.processes import spawn, wait_until

if TYPE_CHECKING:  # every test run imports this file, and few need the vendor's client
    from modelyard.kube.client import KubeClient

HOME: Final = "MODELYARD_TEST_CLUSTER_HOME"
"""Of this run; inherited by its workers."""
OWNER: Final = "MODELYARD_TEST_CLUSTER_OWNER"
"""The run's own process."""
SKIPPED: Final = "no Kubernetes API: "
START_S: Final = 120.0


@dataclass(frozen=True)
class Cluster:
    """A real Kubernetes API."""

    kubeconfig: Path
    kube: "KubeClient"
    collects: bool
    """Whether controllers run: a garbage collector, Deployments that make ReplicaSets."""
    ours: bool
    """Whether it goes away with this run, so that nothing needs to be removed."""

    def kubectl(self, *words: str, text: str = "") -> "subprocess.CompletedProcess[str]":
        """Run kubectl, `text` as its input."""
        found = build.programs().get("kubectl") if self.ours else shutil.which("kubectl")
        if not found:
            pytest.skip("no kubectl")
        cache = self.kubeconfig.with_name("kubectl")
        return subprocess.run(
            [found, f"--kubeconfig={self.kubeconfig}", *([f"--cache-dir={cache}"] if self.ours else []), *words],
            input=text, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def needs(self, kind: Kind) -> None:
        """Skip the test where this kind of others is not installed."""
        try:
            self.kube.get(kind, "default", "none")
        except NotInstalled as reason:
            pytest.skip(reason.what)

    def as_user(self, name: str) -> "KubeClient":
        """Connect as another user, who has no rights but those that a test grants: `nobody`."""
        if not self.ours:
            pytest.skip("users are made in a control plane of our own only")
        from modelyard.kube.client import connect

        return connect(self.kubeconfig.with_name(f"{name}.kubeconfig"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The API server of this run; the test is skipped where there is none."""
    from tests.cluster.keeper import install

    from modelyard.kube.client import connect

    if given := os.environ.get("MODELYARD_TEST_KUBECONFIG"):
        kube = connect(Path(given))
        install(kube)
        yield Cluster(kubeconfig=Path(given), kube=kube, collects=True, ours=False)
        return
    try:
        build.programs()
    except build.NotBuilt as reason:
        pytest.skip(f"{SKIPPED}{reason}")
    ready = _kept(Path(os.environ[HOME]), int(os.environ[OWNER]))
    kubeconfig = Path(str(ready["kubeconfig"]))
    yield Cluster(kubeconfig=kubeconfig, kube=connect(kubeconfig), collects=bool(ready["collects"]), ours=True)


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own."""
    stem = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].strip("-")
    name = f"{stem}-{secrets.token_hex(4)}"
    cluster.kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, manager="tests")
    yield name
    if not cluster.ours:
        cluster.kube.delete(NAMESPACE, "", name)


def _kept(home: Path, owner: int) -> dict[str, object]:
    """Start the keeper, or find it running."""
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = home / "ready.json"
        if not file.exists():
            argv = [sys.executable, "-m", "tests.cluster.keeper", str(home), str(owner)]
            keeper = spawn(argv, cwd=build.HERE.parents[1], log=home / "keeper.log", detached=True)
            (home / "pid").write_text(str(keeper.pid))
            wait_until(file.exists, deadline_s=START_S, what="the control plane for the tests", child=keeper)
        ready: dict[str, object] = json.loads(file.read_text())
        return ready


def configure() -> None:
    """Name the home of this run's control plane; nothing is made before a test asks for it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        os.environ[HOME] = str(Path(tempfile.gettempdir()) / f"modelyard-cluster-{os.getpid()}-{secrets.token_hex(4)}")
        os.environ[OWNER] = str(os.getpid())


def unconfigure() -> None:
    """Stop it, and wait until nothing of it is left."""
    if "PYTEST_XDIST_WORKER" in os.environ or os.environ.get(OWNER) != str(os.getpid()):
        return
    home = Path(os.environ[HOME])
    if not (home / "pid").exists():
        shutil.rmtree(home, ignore_errors=True)
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        keeper = psutil.Process(int((home / "pid").read_text()))
        keeper.terminate()
        keeper.wait(20)
    shutil.rmtree(home, ignore_errors=True)


def summarize(reporter: pytest.TerminalReporter) -> None:
    """Say loudly what was skipped for want of an API server."""
    reasons = [
        str(each.longrepr[2]).removeprefix("Skipped: ")
        for each in reporter.stats.get("skipped", ())
        if isinstance(each.longrepr, tuple) and SKIPPED in str(each.longrepr[2])
    ]
    if reasons:
        reporter.section("NOT TESTED AGAINST KUBERNETES", sep="!", red=True, bold=True)
        reporter.line(f"{len(reasons)} tests were skipped: {reasons[0]}", red=True, bold=True)
