"""What stands in `metadata`: labels by Kubernetes' recommendation, owners, and names that fit.

https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from modelyard.kube.port import Labels, Object

NAME_LIMIT: Final = 63
"""Characters of a label's value, and of the names that become one: Services, Deployments' pods."""

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
NAME: Final = "app.kubernetes.io/name"
INSTANCE: Final = "app.kubernetes.io/instance"
COMPONENT: Final = "app.kubernetes.io/component"
VERSION: Final = "app.kubernetes.io/version"
PART_OF: Final = "app.kubernetes.io/part-of"
DEPLOYMENT_LABEL: Final = "modelyard.dev/deployment"
ARM_LABEL: Final = "modelyard.dev/arm"


def name_of(thing: Object) -> str:
    """`metadata.name`."""
    return str(thing["metadata"]["name"])


def namespace_of(thing: Object) -> str:
    """`metadata.namespace`; empty for what lives in none."""
    return str(thing["metadata"].get("namespace", ""))


def key_of(thing: Object) -> str:
    """`namespace/name`."""
    return f"{namespace_of(thing)}/{name_of(thing)}"


def resource_version_of(thing: Object) -> str:
    """`metadata.resourceVersion`; empty for what was never stored."""
    return str(thing["metadata"].get("resourceVersion", ""))


def labels_of(thing: Object) -> Mapping[str, str]:
    """`metadata.labels`."""
    found: Mapping[str, str] = thing["metadata"].get("labels") or {}
    return found


def matches(thing: Object, labels: Labels) -> bool:
    """Whether an object has all of these labels."""
    return has(labels_of(thing), labels)


def has(mine: Mapping[str, str], wanted: Labels) -> bool:
    """Whether all that is wanted is among these labels."""
    return all(name in mine and value in (None, mine[name]) for name, value in (wanted or {}).items())


def fit(name: str, *, limit: int = NAME_LIMIT) -> str:
    """A name of at most `limit` characters: a longer one is cut, and a hash of the whole keeps it apart from others.

    >>> fit("digits-a1"), len(fit("d" * 80)), fit("d" * 80) == fit("d" * 81)
    ('digits-a1', 63, False)
    """
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: limit - len(digest) - 1].rstrip('-.')}-{digest}"


def owner_reference(owner: Object, *, controller: bool = True) -> dict[str, Any]:
    """A reference by which the garbage collector deletes an object after its owner."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": str(owner["metadata"]["uid"]),
        "controller": controller,
        "blockOwnerDeletion": False,
    }
