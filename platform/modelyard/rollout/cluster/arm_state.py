"""What is read off an arm's Deployment: what was asked of it, and what it came to. Pure."""

from collections.abc import Mapping
from typing import Final

from modelyard.errors import Conflict
from modelyard.kube.port import MODEL_DEPLOYMENT, Object
from modelyard.rollout.cluster.reasons import failure_of
from modelyard.rollout.cluster.render import (
    DIGEST_ANNOTATION,
    REPLICAS_ANNOTATION,
    ROLLOUT_ANNOTATION,
    VERSION_ANNOTATION,
)
from modelyard.rollout.observation import Arm

RETIRING: Final = "modelyard.dev/retiring"
PARTS: Final = "modelyard.dev/parts"
"""Hash of what surrounds the Deployment, as it was last applied."""
AUTOSCALED: Final = "modelyard.dev/autoscaled"
"""Set while an autoscaler owns `spec.replicas`."""
TRIES: Final = 5
"""A controller may write an object's status between our reading and our writing: then it is written once more."""


def observed(arm: str, found: Object, pods: list[Object]) -> Arm:
    """The arm as its Deployment and its pods show it."""
    retiring, autoscaled = is_retiring(found), bool(annotation(found, AUTOSCALED))
    # without an autoscaler, what is there is told: where somebody scaled by hand, it is set right
    replicas = asked(found) if autoscaled else scaled(found)
    return Arm(
        name=arm,
        version=annotation(found, VERSION_ANNOTATION),
        digest=annotation(found, DIGEST_ANNOTATION),
        replicas=0 if retiring else replicas,
        ready=ready(found),
        failure=None if retiring else failure_of(found, pods),
        rollout=annotation(found, ROLLOUT_ANNOTATION),
        scaled=scaled(found) if autoscaled else 0,
        resource_version=version_of(found),
    )


def version_of(found: Object) -> str:
    """Changes with every `ensure` and with every change of the spec, but not with what controllers say of it."""
    about = found["metadata"]
    said = [annotation(found, name) for name in (ROLLOUT_ANNOTATION, REPLICAS_ANNOTATION, RETIRING)]
    return ".".join([str(about["uid"])[:8], str(about.get("generation", 1)), *said])


def expect(found: Object, expected: str, arm: str) -> None:
    """See that nobody changed the arm since it was read.

    Raises:
        Conflict: somebody did.
    """
    if (now := version_of(found)) != expected:
        raise Conflict(f"arm {arm} is at version {now!r}, not {expected!r}", do="look again")


def owner_of(found: Object, name: str) -> Object:
    """The ModelDeployment as an arm's Deployment refers to it."""
    owner = next(each for each in found["metadata"]["ownerReferences"] if each["name"] == name)
    about = {"name": name, "namespace": found["metadata"]["namespace"], "uid": owner["uid"]}
    return {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "metadata": about}


def belongs(found: Object, deployment: str) -> bool:
    """Labels are cut where names are long: the owner's name is whole."""
    owners = found["metadata"].get("ownerReferences") or ()
    return any(each.get("name") == deployment and each.get("kind") == MODEL_DEPLOYMENT.kind for each in owners)


def is_retiring(found: Object) -> bool:
    """Whether it is on its way out."""
    return annotation(found, RETIRING) == "true"


def asked(found: Object) -> int:
    """Replicas that the loop asked for."""
    said = annotation(found, REPLICAS_ANNOTATION)
    return int(said) if said.isdecimal() else 0


def scaled(found: Object) -> int:
    """Replicas that whoever scales asks for."""
    return int(found["spec"].get("replicas", 1))


def ready(found: Object) -> int:
    """Pods that answered a real prediction."""
    return int((found.get("status") or {}).get("readyReplicas") or 0)


def annotation(found: Object, name: str) -> str:
    """One annotation; empty where there is none."""
    said: Mapping[str, str] = found["metadata"].get("annotations") or {}
    return said.get(name, "")
