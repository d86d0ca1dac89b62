"""Kubeflow's two training operators for the tests: their definitions, and training-operator itself, where it was built.

Definitions come from the same pinned modules as the binaries, and are applied by the tests that ask for them: they are
large. `python -m tests.cluster.build training-operator trainer` builds the binaries (100 s and 84 s on two free cores);
where there are none, what needs them is skipped, and the last lines of the run say so.
"""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.cluster import build

from modelyard.errors import Conflict, NotInstalled, Refused, Unavailable
from modelyard.kube.client import KubeClient
from modelyard.kube.port import PYTORCH_JOB, TRAIN_JOB, TRAINING_RUNTIME, Kind
from modelyard.processes import Child, free_port, spawn, wait_until

FILES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "training-operator": {
        "github.com/kubeflow/training-operator": ("manifests/base/crds/kubeflow.org_pytorchjobs.yaml",)
    },
    "trainer": {
        "github.com/kubeflow/trainer/v2": (
            "manifests/base/crds/trainer.kubeflow.org_trainjobs.yaml",
            "manifests/base/crds/trainer.kubeflow.org_trainingruntimes.yaml",
        ),
    },
}
"""Folder of the pinned modules → module → files in it."""
KINDS: Final = (PYTORCH_JOB, TRAIN_JOB, TRAINING_RUNTIME)
CERTIFICATES: Final = Path("/tmp/k8s-webhook-server/serving-certs")
"""Where training-operator looks for them; a constant of its own."""
AUTHORITY: Final = "training-operator-ca"
"""The name that it checks; with another one it makes certificates of its own, for a Service only."""
NAMESPACE: Final = "kubeflow"
WEBHOOK: Final = "validator.training-operator.kubeflow.org"


def definitions() -> Path:
    """A folder with the definitions as JSON, made when it is asked for the first time.

    Raises:
        build.NotBuilt: there is no Go, or the modules cannot be fetched.
    """
    key = build._key("training-operator", build._key("trainer"))
    final = build.cache() / f"training-definitions-{key}"
    build.cache().mkdir(parents=True, exist_ok=True)
    with (build.cache() / "definitions.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.exists():
            with tempfile.TemporaryDirectory(dir=build.cache(), prefix=".building-") as folder:
                made = Path(folder) / "definitions"
                made.mkdir()
                for file in _files(build.go()):
                    loaded = yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
                    (made / f"{file.stem}.json").write_text(json.dumps(loaded))
                made.replace(final)
    return final


def _files(command: str) -> Iterator[Path]:
    for folder, modules in FILES.items():
        for module, names in modules.items():
            told = subprocess.run(
                [command, "mod", "download", "-json", module],
                cwd=build.HERE / folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                timeout=300,
            )  # fmt: skip
            if told.returncode != 0:
                raise build.NotBuilt(f"{module} could not be fetched: {told.stderr or told.stdout}")
            yield from (Path(json.loads(told.stdout)["Dir"]) / name for name in names)


def install(kube: KubeClient) -> None:
    """Let the API server know PyTorchJob and TrainJob."""
    for file in sorted(definitions().glob("*.json")):
        each = json.loads(file.read_text())
        kube.apply({name: value for name, value in each.items() if name != "status"}, manager="tests", force=True)
    for kind in KINDS:
        wait_until(lambda kind=kind: _served(kube, kind), deadline_s=60, what=kind.kind)


def _served(kube: KubeClient, kind: Kind) -> bool:
    try:
        kube.list(kind, namespace="default")
    except (NotInstalled, Unavailable):
        return False
    return True


def start_operator(kube: KubeClient, kubeconfig: Path, home: Path) -> Child:
    """training-operator 1.9.4, with its validating webhook: it refuses what it would not run."""
    port, probe = free_port(), free_port()
    authority, files = _certificates(f"training-operator.{NAMESPACE}.svc")
    CERTIFICATES.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (CERTIFICATES / name).write_bytes(text)
    _make(kube, "v1", "Namespace", NAMESPACE)
    data = {name: base64.b64encode(text).decode() for name, text in files.items()}
    _make(kube, "v1", "Secret", "training-operator-webhook-cert", namespace=NAMESPACE, data=data)
    rule = {"apiGroups": ["kubeflow.org"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
            "resources": ["pytorchjobs"]}  # fmt: skip
    hook = {
        "name": "validator.pytorchjob.training-operator.kubeflow.org", "rules": [rule], "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
        "clientConfig": {
            "url": f"https://127.0.0.1:{port}/validate-kubeflow-org-v1-pytorchjob",
            "caBundle": base64.b64encode(authority).decode(),
        },
    }  # fmt: skip
    _kubectl(kubeconfig, {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
                          "metadata": {"name": WEBHOOK}, "webhooks": [hook]})  # fmt: skip
    return spawn(
        [
            build.place("training-operator"), "--metrics-bind-address=127.0.0.1:0",
            f"--health-probe-bind-address=127.0.0.1:{probe}", "--enable-scheme=pytorchjob",
            f"--webhook-server-port={port}",
        ],
        env={**os.environ, "KUBECONFIG": str(kubeconfig), "MY_POD_NAMESPACE": NAMESPACE},
        log=home / "training-operator.log",
    )  # fmt: skip


def start_scheduler(kubeconfig: Path, home: Path) -> Child:
    """kube-scheduler: places pods on nodes."""
    account = kubeconfig
    return spawn(
        [
            build.place("kube-scheduler"), f"--kubeconfig={account}", f"--authentication-kubeconfig={account}",
            f"--authorization-kubeconfig={account}", "--bind-address=127.0.0.1", "--secure-port=0",
            "--leader-elect=false", "--profiling=false",
        ],
        log=home / "kube-scheduler.log",
    )  # fmt: skip


def stop_webhook(kubeconfig: Path) -> None:
    """Nobody answers any more: let jobs be written without being asked about."""
    _run(kubeconfig, "delete", "validatingwebhookconfiguration", WEBHOOK, "--ignore-not-found")
    shutil.rmtree(CERTIFICATES.parent, ignore_errors=True)


def _make(kube: KubeClient, api: str, kind: str, name: str, *, namespace: str = "", **rest: Any) -> None:
    about = {"name": name, **({"namespace": namespace} if namespace else {})}
    with contextlib.suppress(Conflict, Refused):
        kube.apply({"apiVersion": api, "kind": kind, "metadata": about, **rest}, manager="tests", force=True)


def _kubectl(kubeconfig: Path, thing: Mapping[str, Any]) -> None:
    _run(kubeconfig, "apply", "-f", "-", text=json.dumps(thing))


def _run(kubeconfig: Path, *words: str, text: str = "") -> None:
    argv = [str(build.place("kubectl")), f"--kubeconfig={kubeconfig}", *words]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def _certificates(name: str) -> tuple[bytes, dict[str, bytes]]:
    """An authority, and a server's certificate for its name in a cluster and for 127.0.0.1."""
    now = datetime.now(UTC)
    keys = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]

    def subject(common: str) -> x509.Name:
        return x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, common), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tests")]
        )

    def begun(common: str, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder().subject_name(subject(common)).issuer_name(subject(AUTHORITY))
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=3650))
        )  # fmt: skip

    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, content_commitment=False, key_encipherment=True,
        data_encipherment=False, key_agreement=False, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    authority = (
        begun(AUTHORITY, keys[0]).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(AUTHORITY)]), critical=False)
        .add_extension(usage, critical=True).sign(keys[0], hashes.SHA256())
    )  # fmt: skip
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))])
    server = (
        begun(name, keys[1]).add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(keys[0], hashes.SHA256())
    )  # fmt: skip
    text = serialization.Encoding.PEM
    private = [
        key.private_bytes(text, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        for key in keys
    ]
    root = authority.public_bytes(text)
    return root, {"ca.crt": root, "ca.key": private[0], "tls.crt": server.public_bytes(text), "tls.key": private[1]}
