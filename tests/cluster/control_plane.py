"""A real Kubernetes control plane on 127.0.0.1: etcd, kube-apiserver, kube-controller-manager.

No node, no scheduler: pods are made and stay Pending, unless a test writes their status. Whoever starts it owns it; it
dies with its owner.
"""

import json
import secrets
import shutil
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from modelyard.errors import Unavailable
from modelyard.processes import Child, free_port, spawn, wait_until

START_S: Final = 60.0
"""Until the API server is ready; 3 s when nothing else runs."""
CONTROLLERS: Final = (
    "garbage-collector-controller,namespace-controller,serviceaccount-controller,deployment-controller,"
    "replicaset-controller,disruption-controller,endpointslice-controller,resourcequota-controller"
)
USERS: Final[Mapping[str, str]] = {
    "admin": "system:masters",
    "system:kube-controller-manager": "system:masters",
    "system:kube-scheduler": "",
    "nobody": "",
}
"""User → group; all controllers act as one. `nobody` has no rights, until a test grants some."""


@dataclass(frozen=True)
class ControlPlane:
    """What runs, in the order of its start."""

    home: Path
    children: tuple[Child, ...]

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.home / "admin.kubeconfig"

    def stop(self) -> None:
        """Stop all, last first."""
        for child in reversed(self.children):
            child.stop(grace=3.0)


def start_api(home: Path, binaries: Mapping[str, Path], *, service_accounts: bool = True) -> ControlPlane:
    """Start etcd and kube-apiserver; three attempts, since a free port can be taken before it is used.

    Args:
        home: a folder of its own for state, logs and kubeconfigs.
        binaries: name → path.
        service_accounts: whether a controller will make them; pods are refused until it does.

    Raises:
        Unavailable: it does not become ready; the message has the end of the log.
    """
    for attempt in (1, 2, 3):
        home.mkdir(parents=True, exist_ok=True)
        try:
            return _start(home, binaries, service_accounts=service_accounts)
        except Unavailable:
            if attempt == 3:
                raise
            shutil.rmtree(home)
    raise AssertionError


def _start(home: Path, binaries: Mapping[str, Path], *, service_accounts: bool) -> ControlPlane:
    port, etcd_port, peer_port = free_port(), free_port(), free_port()
    peers, clients = f"http://127.0.0.1:{peer_port}", f"http://127.0.0.1:{etcd_port}"
    server = f"https://127.0.0.1:{port}"
    tokens = {user: secrets.token_hex(16) for user in USERS}
    lines = [f'{tokens[user]},{user},{user},"{group}"\n' for user, group in USERS.items()]
    private(home / "tokens.csv", "".join(lines))
    write_keys(home)
    etcd = spawn(
        [
            binaries["etcd"], "--data-dir", home / "etcd", "--unsafe-no-fsync", "--log-level", "error",
            "--listen-client-urls", clients, "--advertise-client-urls", clients,
            "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
            "--initial-cluster", f"default={peers}",
        ],
        log=home / "etcd.log",
    )  # fmt: skip
    api = spawn(
        [
            binaries["kube-apiserver"], f"--etcd-servers={clients}", "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={home / 'certificates'}", f"--token-auth-file={home / 'tokens.csv'}",
            "--authorization-mode=RBAC", "--anonymous-auth=false", "--service-cluster-ip-range=10.96.0.0/16",
            f"--service-account-key-file={home / 'accounts.pub'}",
            f"--service-account-signing-key-file={home / 'accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--profiling=false",
            "--enable-priority-and-fairness=false", "--endpoint-reconciler-type=none", "--allow-privileged=true",
            *([] if service_accounts else ["--disable-admission-plugins=ServiceAccount"]),
        ],
        log=home / "kube-apiserver.log",
    )  # fmt: skip
    plane = ControlPlane(home=home, children=(etcd, api))
    try:
        authority = home / "certificates" / "apiserver.crt"
        wait_until(authority.exists, deadline_s=START_S, what="the API server's certificate", child=api)
        for user, token in tokens.items():
            write_kubeconfig(home / f"{user.rpartition(':')[2]}.kubeconfig", server, authority, user, token)
        wait_until(
            lambda: ready(server, authority, tokens["admin"]), deadline_s=START_S, what="the API server", child=api
        )
    except BaseException:  # also when it is told to stop
        plane.stop()
        raise
    return plane


def start_controllers(plane: ControlPlane, binary: Path) -> ControlPlane:
    """Start kube-controller-manager, after our definitions are there: its garbage collector finds later ones late."""
    home = plane.home
    account = home / "kube-controller-manager.kubeconfig"
    controllers = spawn(
        [
            binary, f"--kubeconfig={account}", f"--authentication-kubeconfig={account}",
            f"--authorization-kubeconfig={account}", f"--controllers={CONTROLLERS}", "--leader-elect=false",
            f"--service-account-private-key-file={home / 'accounts.key'}", "--use-service-account-credentials=false",
            "--bind-address=127.0.0.1", "--secure-port=0", "--profiling=false", "--kube-api-qps=200",
            "--kube-api-burst=400",
        ],
        log=home / "kube-controller-manager.log",
    )  # fmt: skip
    return ControlPlane(home=home, children=(*plane.children, controllers))


def write_keys(home: Path) -> None:
    """The pair that signs ServiceAccounts' tokens."""
    key = ec.generate_private_key(ec.SECP256R1())
    text = serialization.Encoding.PEM
    secret = key.private_bytes(text, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(text, serialization.PublicFormat.SubjectPublicKeyInfo)
    private(home / "accounts.key", secret.decode())
    private(home / "accounts.pub", public.decode())


def write_kubeconfig(file: Path, server: str, authority: Path, user: str, token: str, *, name: str = "tests") -> None:
    """Write a kubeconfig of one cluster and one user, both in the context `name`."""
    cluster = {"server": server, "certificate-authority": str(authority)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    }
    private(file, json.dumps(content, indent=1))


def private(file: Path, text: str) -> None:
    """Write a file that nobody else may read."""
    file.touch(mode=0o600)
    file.write_text(text)


def ready(server: str, authority: Path, token: str) -> bool:
    """Whether the API server says that it is ready."""
    request = urllib.request.Request(f"{server}/readyz", headers={"Authorization": f"Bearer {token}"})
    try:
        context = ssl.create_default_context(cafile=str(authority))
        with urllib.request.urlopen(request, timeout=2, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
