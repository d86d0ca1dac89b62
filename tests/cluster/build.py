"""Builds a Kubernetes control plane for the tests from pinned Go modules, once, into a cache outside the checkout.

    python -m tests.cluster.build              what the tests need: about six minutes on two cores, later nothing
    python -m tests.cluster.build kwok ...     others by name

The cache is `${XDG_CACHE_HOME:-~/.cache}/modelyard/cluster/<name>-<key>/`; the key is what the module files and the
flags contain. Other keys of a binary are removed when a new one was built, so the cache holds one of each. A build that
was interrupted goes on where it was: what Go compiled (4 GB) is kept beside until all that was asked for is there.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from modelyard.processes import spawn

HERE: Final = Path(__file__).parent
DEADLINE_S: Final = 1500.0
"""For everything: four times what it took on two cores."""
VERSION: Final = "1.36.3"
_STAMP: Final = "k8s.io/component-base/version"
_KUBERNETES: Final = (
    f"-s -w -X {_STAMP}.gitVersion=v{VERSION} -X {_STAMP}.gitMajor=1 -X {_STAMP}.gitMinor={VERSION.split('.')[1]}"
)


class NotBuilt(Exception):
    """There is no control plane; says why and what to do."""


@dataclass(frozen=True)
class Binary:
    """One program: its module below this folder, its package, its linker's flags, its build tags."""

    module: str
    package: str
    flags: str = "-s -w"
    tags: str = ""


BINARIES: Final[Mapping[str, Binary]] = {
    "argo-rollouts": Binary("argo", "github.com/argoproj/argo-rollouts/cmd/rollouts-controller"),
    "etcd": Binary("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": Binary("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", _KUBERNETES),
    "kube-controller-manager": Binary("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", _KUBERNETES),
    "kubectl": Binary("kubernetes", "k8s.io/kubernetes/cmd/kubectl", _KUBERNETES),
    "kube-scheduler": Binary("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", _KUBERNETES),
    "kwok": Binary("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    "training-operator": Binary("training-operator", "github.com/kubeflow/training-operator/cmd/training-operator.v1"),
    "trainer": Binary("trainer", "github.com/kubeflow/trainer/v2/cmd/trainer-controller-manager"),
    "jobset": Binary("trainer", "sigs.k8s.io/jobset"),
    "kubelet": Binary("node", "k8s.io/kubernetes/cmd/kubelet", _KUBERNETES),
    "kube-proxy": Binary("node", "k8s.io/kubernetes/cmd/kube-proxy", _KUBERNETES),
    "containerd": Binary("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
    "containerd-shim-runc-v2": Binary("containerd", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
    "ctr": Binary("containerd", "github.com/containerd/containerd/v2/cmd/ctr"),
    "coredns": Binary("coredns", "github.com/coredns/coredns"),
    "envoy-gateway": Binary("gateway", "github.com/envoyproxy/gateway/cmd/envoy-gateway"),
    "metrics-server": Binary("metrics", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
    "prometheus": Binary(
        "prometheus", "github.com/prometheus/prometheus/cmd/prometheus", tags="remove_all_sd,enable_kubernetes_sd"
    ),
    "pause": Binary("pause", "modelyard.dev/tests/cluster/pause"),
}
DEFINITIONS: Final[Mapping[str, str]] = {
    "sigs.k8s.io/gateway-api": "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    "github.com/envoyproxy/gateway": (
        "charts/gateway-helm/charts/crds/crds/generated/gateway.envoyproxy.io_backendtrafficpolicies.yaml"
    ),
    "github.com/kedacore/keda/v2": "config/crd/bases/keda.sh_scaledobjects.yaml",
    "github.com/prometheus-operator/prometheus-operator": (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"
    ),
}
"""Where the kinds of others that we write are defined: module → file in it."""
NEEDED: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
"""By the tests; the scheduler, kwok and Argo Rollouts by the benchmark of scale."""
NODE: Final = (
    *NEEDED, "kube-scheduler", "kubelet", "kube-proxy", "containerd", "containerd-shim-runc-v2", "ctr", "coredns",
    "pause", "envoy-gateway",
)  # fmt: skip
"""What a node of our own consists of (`tests.cluster.node`)."""


def cache() -> Path:
    """Where binaries are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "modelyard" / "cluster"


def place(name: str) -> Path:
    """Where this binary is, or will be."""
    binary = BINARIES[name]
    return cache() / f"{name}-{_key(binary.module, binary.package, binary.flags, *binary.tags.split())}" / name


def definitions() -> Path:
    """Where the definitions of others are, or will be: a folder of JSON files."""
    return cache() / f"definitions-{_key('definitions', *DEFINITIONS.values())}"


def _key(module: str, *rest: str) -> str:
    """What is pinned, in short."""
    pins = b"".join((HERE / module / file).read_bytes() for file in ("go.mod", "go.sum"))
    return hashlib.sha256(pins + " ".join((sys.platform, os.uname().machine, *rest)).encode()).hexdigest()[:16]


def module(folder: str, name: str) -> Path:
    """Where Go keeps the sources of a module that one of ours needs."""
    told = subprocess.run(
        [go(), "mod", "download", "-json", name], cwd=HERE / folder, capture_output=True, text=True, check=True
    )
    return Path(str(json.loads(told.stdout)["Dir"]))


def missing(names: tuple[str, ...] = NEEDED) -> tuple[str, ...]:
    """Those that are not in the cache."""
    return tuple(name for name in names if not place(name).exists())


def programs() -> Mapping[str, Path]:
    """Name → path, from `KUBEBUILDER_ASSETS` or the cache; kube-controller-manager and kubectl may be missing there.

    Raises:
        NotBuilt: there is no API server.
    """
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        found = {name: Path(assets) / name for name in NEEDED if (Path(assets) / name).exists()}
        if not {"etcd", "kube-apiserver"} <= set(found):
            raise NotBuilt(f"KUBEBUILDER_ASSETS={assets} has no etcd and kube-apiserver")
        return found
    if gone := missing() or (() if definitions().exists() else ("definitions of other kinds are",)):
        go()
        raise NotBuilt(f"{', '.join(gone)} not built yet: `make cluster` does it, once, in about six minutes")
    return {name: place(name) for name in NEEDED}


def go() -> str:
    """The Go command.

    Raises:
        NotBuilt: there is none, or it is too old.
    """
    found = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if found is None:
        raise NotBuilt("there is no Go to build a Kubernetes API server with: install Go, or set KUBEBUILDER_ASSETS")
    told = subprocess.run([found, "list", "-m"], cwd=HERE / "kubernetes", capture_output=True, text=True, check=False)
    if told.returncode != 0:
        raise NotBuilt(f"this Go cannot build a Kubernetes API server: {told.stderr.strip().splitlines()[-1]}")
    return found


def build(names: tuple[str, ...] = NEEDED, *, deadline_s: float = DEADLINE_S) -> None:
    """Build what is missing, one after the other, with progress on stderr.

    Raises:
        NotBuilt: there is no Go, a build failed, or the time is over.
    """
    if not missing(names) and definitions().exists():  # whoever builds something else holds up nobody
        return
    deadline = time.monotonic() + deadline_s
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        try:  # another checkout may build the same; the lock is freed when its process ends
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Waiting for another build of the control plane ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not definitions().exists():
            _define(go(), deadline)
        wanted = missing(names)
        if not wanted:
            return
        command = go()
        _say(f"Building {', '.join(wanted)} for the tests, once (about six minutes on two cores) ...")
        for name in wanted:
            _build(command, name, deadline)
        shutil.rmtree(_compiled())


def _compiled() -> Path:
    return cache() / "compiled"


def _build(command: str, name: str, deadline: float) -> None:
    binary, final, started, progress = BINARIES[name], place(name), time.monotonic(), _Progress()
    flags = "-mod=readonly -trimpath -buildvcs=false"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": flags, "GOCACHE": str(_compiled())}
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".building-") as folder:
        made, log = Path(folder) / name, Path(folder) / "log"
        compiler = spawn(
            [
                "nice",
                "-n",
                "10",
                command,
                "build",
                "-v",
                f"-ldflags={binary.flags}",
                f"-tags={binary.tags}",
                "-o",
                made,
                binary.package,
            ],
            cwd=HERE / binary.module,
            env=environment,
            log=log,
        )
        try:
            while compiler.alive():
                if time.monotonic() > deadline:
                    raise NotBuilt(f"{name} was not built in time: run `make cluster` again, it goes on from here")
                packages = log.read_bytes().count(b"\n")
                progress.show(f"  {name}: {packages} packages, {time.monotonic() - started:.0f} s")
                time.sleep(0.5)
            if compiler.exit_code != 0:
                raise NotBuilt(f"{name} could not be built:\n{compiler.tail()}")
        finally:
            compiler.stop(grace=0)  # also on Ctrl-C
        final.parent.mkdir(parents=True, exist_ok=True)
        made.replace(final)
    progress.show("")
    _say(f"  {name}: {time.monotonic() - started:.0f} s, {final.stat().st_size / 2**20:.0f} MiB")
    _forget_others(name, final.parent)


def _define(command: str, deadline: float) -> None:
    """Fetch the modules whose definitions we need, as sums in go.sum have them, and keep these files as JSON."""
    try:
        told = subprocess.run(
            [command, "mod", "download", "-json", *DEFINITIONS],
            cwd=HERE / "definitions", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=deadline - time.monotonic(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotBuilt("definitions of other kinds were not fetched in time: run `make cluster` again") from None
    if told.returncode != 0:
        raise NotBuilt(f"definitions of other kinds could not be fetched:\n{told.stderr or told.stdout}")
    found, at = [], 0
    while at < len(told.stdout.rstrip()):  # one JSON object after the other
        module, end = json.JSONDecoder().raw_decode(told.stdout, at)
        found.append(Path(module["Dir"]) / DEFINITIONS[module["Path"]])
        at = end + 1
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".building-") as folder:
        made = Path(folder) / "definitions"
        made.mkdir()
        for file in found:
            definition = yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            (made / f"{file.stem}.json").write_text(json.dumps(definition))
        made.replace(definitions())
    _forget_others("definitions", definitions())


def _forget_others(name: str, kept: Path) -> None:
    for other in cache().glob(f"{name}-*"):
        if other != kept and len(other.name) == len(kept.name):
            shutil.rmtree(other)


class _Progress:
    """Where a build is: in place on a terminal, a line now and then elsewhere."""

    said = 0.0

    def show(self, line: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[2K{line}")
            sys.stderr.flush()
        elif line and time.monotonic() - self.said > 20:
            self.said = time.monotonic()
            _say(line)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main(arguments: list[str]) -> int:
    """Build; no Go is no failure, since the tests that need a control plane are then skipped, and say so."""
    if unknown := set(arguments) - set(BINARIES):
        _say(f"There is no {', '.join(sorted(unknown))}; there are {', '.join(BINARIES)}.")
        return 2
    if os.environ.get("KUBEBUILDER_ASSETS") or os.environ.get("MODELYARD_TEST_KUBECONFIG"):
        return 0
    try:
        go()
    except NotBuilt as reason:
        _say(f"No control plane for the tests: {reason}")
        return 0
    try:
        build(tuple(arguments) or NEEDED)
    except NotBuilt as reason:
        _say(str(reason))
        return 1
    except KeyboardInterrupt:
        _say("\nStopped; `make cluster` goes on from here.")
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
