"""What all our pods have in common: they run restricted, and credentials come from Secrets. Pure.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from collections.abc import Mapping
from typing import Any, Final

RESTRICTED: Final[Mapping[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""The security context of a container."""
USER: Final = 10001
"""Of our images."""
RESTRICTED_POD: Final[Mapping[str, Any]] = {
    "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip
"""The security context of a pod."""


def mount(name: str, path: str, *, read_only: bool = False) -> dict[str, Any]:
    """A volume's place in a container."""
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def secret(variable: str, name: str, key: str, *, optional: bool = False) -> dict[str, Any]:
    """An environment variable with what a Secret has under a key."""
    reference = {"name": name, "key": key, **({"optional": True} if optional else {})}
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def bucket_credentials(name: str) -> list[dict[str, Any]]:
    """The variables that S3's clients read, from a Secret with `accessKeyID` and `secretAccessKey`."""
    return [secret("AWS_ACCESS_KEY_ID", name, "accessKeyID"), secret("AWS_SECRET_ACCESS_KEY", name, "secretAccessKey")]
