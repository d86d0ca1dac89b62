"""A real Kubernetes node on this machine, of its own: nothing of it is left once it is down.

    sudo python -m tests.cluster.machine up        ready in half a minute; prints how to reach it
    sudo python -m tests.cluster.machine down
    sudo python -m tests.cluster.machine check     whether a run on it can be had here; else it says what is missing

The whole node (etcd, API server, kubelet, containerd, every pod) lives in process, mount, network and IPC namespaces
that end with their first process: no mount, no rule of iptables, no bridge and no process can outlive it. What is
outside is one wire (a veth pair, which goes with the namespace), three routes over it, a tree of control groups and one
folder of state, which `down` removes. A node that was killed is cleared away by the next `up`, or by `down`.

It needs root, Go (or a filled cache), and Debian's runc, containernetworking-plugins, iptables and conntrack.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil
from tests.cluster import build
from tests.cluster.daemons import (
    ADDRESS,
    CONTEXT,
    NODE,
    OUTSIDE,
    PODS,
    SERVER,
    SERVICES,
    Daemon,
    daemons,
    kubeconfig,
    token,
    write_files,
)

from modelyard.errors import Unavailable
from modelyard.processes import Child, shorten, spawn, wait_until
from modelyard.storage.atomic import write_text

TOOLS: Final = ("unshare", "runc", "iptables", "conntrack", "ip")
BUILDERS: Final = ("buildah", "debootstrap")
"""What images for it are built with."""
WIRE: Final = "modelyard0"
START_S: Final = 180.0
CONTROL_GROUPS: Final = Path("/sys/fs/cgroup")


class NotPossible(Exception):
    """There can be no node here; says why and what to do."""


def home() -> Path:
    """Where the node's state lies while it is up."""
    return build.cache().parent / "node"


CANNOT = 3
"""How `check` ends where there can be no node; a fault of its own ends otherwise, and is not taken for that."""


def check(tools: Sequence[str] = TOOLS) -> None:
    """Look whether a node can be had here.

    Raises:
        NotPossible: no root, a tool that is not installed, or a network that is in use.
    """
    if os.geteuid() != 0:
        raise NotPossible("a Kubernetes node needs root (namespaces, mounts, control groups): run it with sudo")
    gone = [tool for tool in tools if shutil.which(tool) is None]
    if gone or not (Path("/usr/lib/cni/ptp").exists() or Path("/opt/cni/bin/ptp").exists()):
        packages = "runc containernetworking-plugins iptables conntrack iproute2 util-linux buildah debootstrap"
        raise NotPossible(f"missing: {', '.join(gone) or 'CNI plug-ins'}: apt-get install {packages}")
    told = _run("ip", "-4", "route", "show").stdout
    taken = [line for line in told.splitlines() if line.startswith(("10.231.", "10.232.", "10.233."))]
    if taken and WIRE not in told:
        raise NotPossible(f"a network of this machine is where the node's would be: {taken[0]}")


def check_run() -> None:
    """Look whether a whole run on a node can be had here: the node, and what its programs and images are built with.

    Raises:
        NotPossible: see `check`; or root may not make namespaces or control groups here.
        NotBuilt: there is no Go.
    """
    check((*TOOLS, *BUILDERS))
    elsewhere = "use a machine of its own, or a privileged container"
    tried = _run("unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--mount-proc", "true")
    if tried.returncode != 0:
        raise NotPossible(f"namespaces cannot be made here ({tried.stderr.strip()}): {elsewhere}")
    if frozen := [each for each in _controllers() if os.statvfs(each).f_flag & os.ST_RDONLY]:
        raise NotPossible(f"control groups cannot be made in {frozen[0]}: {elsewhere}")
    if build.missing(build.NODE):
        build.go()


def up(*, detached: bool) -> Path:
    """Start a node and wait until it is Ready; one that is up already is left alone.

    Args:
        detached: it shall outlive this process, until `down`.

    Returns:
        The administrator's kubeconfig.

    Raises:
        NotPossible: there can be none here.
        NotBuilt: its programs cannot be built.
        Unavailable: it does not become ready.
    """
    check()
    if _first() is not None and (home() / "ready.json").exists():
        return kubeconfig(home(), "admin")
    down()
    build.build(build.NODE, deadline_s=3600)
    home().mkdir(parents=True)
    keeper = spawn(
        [
            "unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child=KILL", "--mount-proc",
            sys.executable, "-m", "tests.cluster.machine", "keep",
        ],
        cwd=build.HERE.parents[1],
        log=home() / "keeper.log",
        detached=detached,
    )  # fmt: skip
    write_text(home() / "pid", f"{keeper.pid} {psutil.Process(keeper.pid).create_time()}")
    try:
        first = wait_until(lambda: _inside(keeper.pid), deadline_s=20, what="the node's namespaces", child=keeper)
        assert first is not None
        _wire(first)
        wait_until((home() / "ready.json").exists, deadline_s=START_S, what="the Kubernetes node", child=keeper)
    except BaseException:
        if "MODELYARD_KEEP" not in os.environ:
            keeper.stop(grace=0)
            down()
        raise
    return kubeconfig(home(), "admin")


def down() -> None:
    """End the node, if there is one, and remove all that is left of it."""
    first = _first()
    if first is not None:
        first.kill()  # the namespaces' first process goes with it, and every process in them with that
        with contextlib.suppress(psutil.NoSuchProcess):
            first.wait(20)
    _run("ip", "link", "delete", WIRE)
    deadline = time.monotonic() + 20
    while (left := _control_groups()) and time.monotonic() < deadline:
        for group in left:
            with contextlib.suppress(OSError):  # its last process has not gone yet
                group.rmdir()
        time.sleep(0.05)
    while home().exists() and time.monotonic() < deadline:
        shutil.rmtree(home(), ignore_errors=True)


def keep(programs: Mapping[str, Path]) -> None:
    """Be the first process of the namespaces: start everything, and start again what ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _furnish()
    wait_until(lambda: Path("/sys/class/net").exists() and _addressed(), deadline_s=20, what="the wire")
    write_files(home())
    os.environ["PATH"] = f"{programs['containerd-shim-runc-v2'].parent}:{os.environ['PATH']}"
    running: dict[Daemon, Child] = {}
    for daemon in daemons(home(), programs):
        running[daemon] = _start(daemon)
        if daemon.name == "kube-apiserver":
            _wait_for_api(running[daemon])
        elif daemon.name == "containerd":
            wait_until((home() / "containerd.sock").exists, deadline_s=30, what="containerd", child=running[daemon])
            _import_pause(programs)
    wait_until(lambda: _node_is_ready(programs["kubectl"]), deadline_s=120, what="the node to be Ready")
    write_text(home() / "ready.json", json.dumps({"kubeconfig": str(kubeconfig(home(), "admin"))}))
    while True:
        time.sleep(0.5)
        _reap({child.pid for child in running.values()})
        for daemon, child in running.items():
            shorten(child.log)
            if not child.alive():
                child.stop(grace=0)
                running[daemon] = _start(daemon)


def _start(daemon: Daemon) -> Child:
    return spawn(daemon.argv, log=home() / "logs" / f"{daemon.name}.log", cwd=home())


def _furnish() -> None:
    """Let what daemons write to fixed places end with the namespace."""
    for place in ("var", "var-work"):
        (home() / place).mkdir()
    layers = f"lowerdir=/var,upperdir={home() / 'var'},workdir={home() / 'var-work'}"
    _run("mount", "--make-rshared", "/", check=True)
    _run("mount", "-t", "overlay", "overlay", "-o", layers, "/var", check=True)
    _run("mount", "-t", "tmpfs", "tmpfs", "/run", check=True)
    _run("hostname", NODE, check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for controller in _controllers():
        (controller / CONTEXT).mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):  # version 1: a new group has none
            if (controller / name).exists():
                (controller / CONTEXT / name).write_text((controller / name).read_text())
        for name, weight in (("cpu.shares", "6144"), ("cpu.weight", "600")):
            with contextlib.suppress(OSError):  # all pods together would count as one process
                (controller / CONTEXT / name).write_text(weight)


def _controllers() -> Iterator[Path]:
    """The roots of the control groups: one for each controller (version 1), or one for all."""
    if (CONTROL_GROUPS / "cgroup.controllers").exists():
        yield CONTROL_GROUPS
        return
    yield from (each for each in CONTROL_GROUPS.iterdir() if (each / "cgroup.procs").exists() and not each.is_symlink())


def _control_groups() -> list[Path]:
    """All groups of the node, the innermost first."""
    found = [group for controller in _controllers() for group in [controller / CONTEXT] if group.exists()]
    inner = [Path(place) for group in found for place, _, _ in os.walk(group)]
    return sorted(inner, key=lambda group: -len(group.parts))


def _wire(first: int) -> None:
    """Lay the wire between the machine and the node, and the ways to pods and services over it."""
    inside = ("nsenter", "--target", str(first), "--net")
    _run("ip", "link", "add", WIRE, "type", "veth", "peer", "name", "eth0", "netns", str(first), check=True)
    _run("ip", "address", "add", f"{OUTSIDE}/24", "dev", WIRE, check=True)
    _run("ip", "link", "set", WIRE, "up", check=True)
    _run(*inside, "ip", "link", "set", "lo", "up", check=True)
    _run(*inside, "ip", "link", "set", "eth0", "up", check=True)
    _run(*inside, "ip", "route", "add", "default", "via", OUTSIDE, "dev", "eth0", "onlink", check=True)
    _run(*inside, "ip", "address", "add", f"{ADDRESS}/24", "dev", "eth0", check=True)
    for network in (SERVICES, PODS):
        _run("ip", "route", "add", network, "via", ADDRESS, check=True)


def _addressed() -> bool:
    return ADDRESS in _run("ip", "-4", "address", "show").stdout


def _wait_for_api(child: Child) -> None:
    from tests.cluster.control_plane import ready

    authority = home() / "certificates" / "apiserver.crt"
    wait_until(authority.exists, deadline_s=60, what="the API server's certificate", child=child)
    admin = token(home(), "admin")
    wait_until(lambda: ready(SERVER, authority, admin), deadline_s=60, what="the API server", child=child)


def _import_pause(programs: Mapping[str, Path]) -> None:
    from tests.cluster.daemons import PAUSE_IMAGE
    from tests.cluster.images import load, write_image

    archive = home() / "pause.tar"
    write_image(PAUSE_IMAGE, archive, {"pause": programs["pause"]}, command=("/pause",))
    load(archive)


def _node_is_ready(kubectl: Path) -> bool:
    path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    told = _run(kubectl, f"--kubeconfig={kubeconfig(home(), 'admin')}", "get", "node", NODE, "-o", path)
    return told.stdout.strip() == "True"


def _first() -> psutil.Process | None:
    """The process that holds the namespaces; None where there is none."""
    with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
        pid, begun = (home() / "pid").read_text().split()
        process = psutil.Process(int(pid))
        if abs(process.create_time() - float(begun)) < 1:
            return process
    return None


def _inside(holder: int) -> int | None:
    """The number that the namespaces' first process has outside of them."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return next((child.pid for child in psutil.Process(holder).children()), None)
    return None


def _reap(daemons: set[int]) -> None:
    """The first process inherits shims and what they left."""
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in daemons:
                return
            with contextlib.suppress(ChildProcessError):  # another thread waited for it
                os.waitpid(ended.si_pid, os.WNOHANG)


def _run(*words: "str | Path", check: bool = False) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*map(str, words)], capture_output=True, text=True, check=check, timeout=60)


def main(arguments: list[str]) -> int:
    """The program."""
    try:
        match arguments:
            case ["up"]:
                started = time.monotonic()
                sys.stdout.write(f"export KUBECONFIG={up(detached=True)}\n")
                sys.stderr.write(f"ready after {time.monotonic() - started:.0f} s\n")
            case ["down"]:
                down()
            case ["check"]:
                check_run()
            case ["keep"]:
                keep({name: build.place(name) for name in build.NODE})
            case _:
                sys.stderr.write(str(__doc__))
                return 2
    except (NotPossible, build.NotBuilt, Unavailable) as reason:
        sys.stderr.write(f"{reason}\n")
        return CANNOT if arguments == ["check"] else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
