"""What a Kubernetes node of our own consists of: nine daemons, their command lines and their files.

All of them run in namespaces of the machine's own (`tests.cluster.machine`), so addresses and ports are fixed.
"""

import datetime
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.cluster.control_plane import private, write_keys, write_kubeconfig

CONTEXT: Final = "modelyard-e2e"
"""Of the kubeconfig, and the cluster's name."""
NODE: Final = "node"
ADDRESS: Final = "10.231.0.1"
"""Of the node: API server, kubelet and DNS listen here."""
OUTSIDE: Final = "10.231.0.254"
"""Of the machine, at the other end of the wire."""
SERVICES: Final = "10.232.0.0/16"
PODS: Final = "10.233.0.0/16"
SERVER: Final = f"https://{ADDRESS}:6443"
PAUSE_IMAGE: Final = "modelyard.test/pause:1"
USERS: Final[Mapping[str, str]] = {
    "admin": "system:masters",
    "system:kube-controller-manager": "system:masters",
    "system:kube-scheduler": "",
    "system:kube-proxy": "",
    "coredns": "system:masters",
    f"system:node:{NODE}": "system:nodes",
}
"""User → group."""


@dataclass(frozen=True)
class Daemon:
    """A process that shall run for as long as the node is up."""

    name: str
    argv: tuple[str | Path, ...]


def write_files(home: Path) -> None:
    """Write keys, tokens, kubeconfigs and the daemons' configuration."""
    tokens = {user: secrets.token_hex(16) for user in USERS}
    private(home / "tokens.csv", "".join(f'{tokens[user]},{user},{user},"{USERS[user]}"\n' for user in USERS))
    for user, token in tokens.items():
        authority = home / "certificates" / "apiserver.crt"
        write_kubeconfig(kubeconfig(home, user), SERVER, authority, user, token, name=CONTEXT)
    write_keys(home)
    _certificate(home, "kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
    _certificate(home, "front-proxy", "front-proxy", "")
    (home / "cni").mkdir()
    (home / "cni" / "10-pods.conflist").write_text(json.dumps(_network(home)))
    (home / "containerd.toml").write_text(_containerd(home))
    private(home / "Corefile", _corefile(home))
    (home / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(home)))


def kubeconfig(home: Path, user: str) -> Path:
    """Of a user."""
    return home / f"{user.removeprefix('system:').replace(':', '-')}.kubeconfig"


def token(home: Path, user: str) -> str:
    """By which the API server knows a user."""
    lines = (home / "tokens.csv").read_text().splitlines()
    return next(line.split(",")[0] for line in lines if line.split(",")[1] == user)


def daemons(home: Path, programs: Mapping[str, Path]) -> tuple[Daemon, ...]:
    """All of them, in the order of their start."""
    manager, scheduler = (kubeconfig(home, f"system:kube-{name}") for name in ("controller-manager", "scheduler"))
    node, proxy = kubeconfig(home, f"system:node:{NODE}"), kubeconfig(home, "system:kube-proxy")
    etcd = "http://127.0.0.1:2379"
    return (
        Daemon("etcd", (
            programs["etcd"], "--data-dir", home / "etcd", "--unsafe-no-fsync", "--log-level", "error",
            "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
        )),
        Daemon("kube-apiserver", (
            programs["kube-apiserver"], f"--etcd-servers={etcd}", f"--bind-address={ADDRESS}", "--secure-port=6443",
            f"--cert-dir={home / 'certificates'}", f"--token-auth-file={home / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC", "--anonymous-auth=false", f"--service-cluster-ip-range={SERVICES}",
            f"--service-account-key-file={home / 'accounts.pub'}",
            f"--service-account-signing-key-file={home / 'accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--profiling=false",
            "--allow-privileged=true", "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={home / 'kubelet-client.crt'}",
            f"--kubelet-client-key={home / 'kubelet-client.key'}",
            f"--requestheader-client-ca-file={home / 'front-proxy.crt'}",
            "--requestheader-allowed-names=front-proxy", "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={home / 'front-proxy.crt'}",
            f"--proxy-client-key-file={home / 'front-proxy.key'}",
        )),
        Daemon("kube-controller-manager", (
            programs["kube-controller-manager"], f"--kubeconfig={manager}", f"--authentication-kubeconfig={manager}",
            f"--authorization-kubeconfig={manager}", "--leader-elect=false", "--bind-address=127.0.0.1",
            f"--service-account-private-key-file={home / 'accounts.key'}", "--use-service-account-credentials=false",
            f"--root-ca-file={home / 'certificates' / 'apiserver.crt'}", "--profiling=false",
            "--horizontal-pod-autoscaler-sync-period=5s", "--horizontal-pod-autoscaler-downscale-stabilization=15s",
            "--node-monitor-grace-period=60s",
        )),
        Daemon("kube-scheduler", (
            programs["kube-scheduler"], f"--kubeconfig={scheduler}", f"--authentication-kubeconfig={scheduler}",
            f"--authorization-kubeconfig={scheduler}", "--leader-elect=false", "--bind-address=127.0.0.1",
        )),
        Daemon("containerd", (programs["containerd"], "-c", home / "containerd.toml")),
        Daemon("coredns", (programs["coredns"], "-conf", home / "Corefile")),
        Daemon("kubelet", (
            programs["kubelet"], f"--config={home / 'kubelet.yaml'}", f"--kubeconfig={node}",
            f"--hostname-override={NODE}", f"--node-ip={ADDRESS}", f"--root-dir={home / 'kubelet'}",
            f"--cert-dir={home / 'kubelet-certificates'}",
        )),
        Daemon("kube-proxy", (
            programs["kube-proxy"], f"--kubeconfig={proxy}", f"--hostname-override={NODE}", f"--cluster-cidr={PODS}",
            "--proxy-mode=iptables", "--bind-address=127.0.0.1", "--healthz-bind-address=127.0.0.1:10256",
            "--metrics-bind-address=127.0.0.1:10249", "--iptables-min-sync-period=100ms",
            "--conntrack-max-per-core=0", "--conntrack-min=0",  # the whole machine's, and not ours to change
        )),
    )  # fmt: skip


def _network(home: Path) -> dict[str, object]:
    """A wire for each pod: all between pods is routed, so that a Service's address works from everywhere."""
    addresses = {"type": "host-local", "dataDir": str(home / "addresses"),
                 "ranges": [[{"subnet": PODS.replace("/16", "/24")}]], "routes": [{"dst": "0.0.0.0/0"}]}  # fmt: skip
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": addresses},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}


def _containerd(home: Path) -> str:
    return f"""\
version = 3
root = "{home}/containerd"
state = "{home}/containerd-state"
[grpc]
  address = "{home}/containerd.sock"
[ttrpc]
  address = "{home}/containerd-ttrpc.sock"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]
    conf_dir = "{home}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def _corefile(home: Path) -> str:
    account = kubeconfig(home, "coredns")
    return (
        f".:53 {{\n bind {ADDRESS}\n errors\n kubernetes cluster.local {{\n  kubeconfig {account}\n  ttl 1\n }}\n}}\n"
    )


def _kubelet(home: Path) -> dict[str, object]:
    authentication = {
        "anonymous": {"enabled": False},
        "webhook": {"enabled": True},
        "x509": {"clientCAFile": str(home / "kubelet-client.crt")},
    }
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "healthzBindAddress": "127.0.0.1",
        "authentication": authentication,
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{home / 'containerd.sock'}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CONTEXT}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "resolvConf": "",
        "clusterDNS": [ADDRESS],
        "clusterDomain": "cluster.local",
        "serializeImagePulls": False,
        "syncFrequency": "10s",
        "podLogsDir": "/var/log/pods",
        "evictionHard": {
            "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }  # fmt: skip


def _certificate(home: Path, stem: str, name: str, group: str) -> None:
    """A client's certificate that is its own authority: who knows it trusts nobody else."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    subject += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(x509.Name(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=7))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    text, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private(home / f"{stem}.key", key.private_bytes(text, serialization.PrivateFormat.PKCS8, plain).decode())
    (home / f"{stem}.crt").write_bytes(made.public_bytes(text))
