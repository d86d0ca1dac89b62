"""What the operator may do: the one table from which its roles are made. Verbs are RBAC's.

`tests/unit/modelyard_operator/test_permissions.py` holds every call that whole rollouts make against it.
Server-side apply of what is not there needs `create` beside `patch`; `replace` is `update`.
https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from modelyard.kube.port import (
    BACKEND_TRAFFIC_POLICY,
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    EVENT,
    HPA,
    HTTP_ROUTE,
    LEASE,
    MODEL_DEPLOYMENT,
    MODEL_REGISTRY,
    MODEL_ROLLOUT,
    NETWORK_POLICY,
    PDB,
    POD,
    POD_MONITOR,
    SCALED_OBJECT,
    SECRET,
    SERVICE,
    Kind,
)

_READ: Final = ("get", "list", "watch")
_MAKE: Final = ("create", "patch", "delete")


class Rule(NamedTuple):
    """What may be done to objects of one kind."""

    kind: Kind
    verbs: tuple[str, ...]
    status: tuple[str, ...] = ()
    """Verbs on the subresource `status`."""


EVERYWHERE: Final = (
    Rule(MODEL_DEPLOYMENT, _READ, status=("update",)),
    Rule(MODEL_ROLLOUT, (*_READ, *_MAKE, "update"), status=("update",)),
    Rule(MODEL_REGISTRY, _READ, status=("update",)),
    *(Rule(kind, (*_READ, *_MAKE)) for kind in (DEPLOYMENT, SERVICE, PDB, NETWORK_POLICY, CONTROLLER_REVISION)),
    *(Rule(kind, (*_READ, *_MAKE)) for kind in (HPA, SCALED_OBJECT, HTTP_ROUTE)),
    *(Rule(kind, ("get", *_MAKE)) for kind in (CONFIG_MAP, POD_MONITOR, BACKEND_TRAFFIC_POLICY)),
    Rule(POD, _READ),
    Rule(SECRET, ("get",)),
    Rule(EVENT, ("get", "create", "update")),
)
"""In every namespace that is watched: a ClusterRole, or a Role in the one namespace. Pods also in the gateway's."""
AT_HOME: Final = (Rule(LEASE, ("get", "create", "update")),)
"""In the namespace of the Lease."""


def allows(rules: tuple[Rule, ...], verb: str, kind: Kind, *, subresource: str = "") -> bool:
    """Whether the rules let this call of the port pass (`modelyard.kube.port.Kube`)."""
    wanted = {"apply": {"create", "patch"}, "replace": {"update"}}.get(verb, {verb})
    granted = {each for rule in rules if rule.kind == kind for each in (rule.status if subresource else rule.verbs)}
    return wanted <= granted


def policy_rules(rules: tuple[Rule, ...]) -> Iterator[Mapping[str, Any]]:
    """The `rules` of a Role or ClusterRole: one a kind, and one for its status."""
    for rule in rules:
        for resource, verbs in ((rule.kind.plural, rule.verbs), (f"{rule.kind.plural}/status", rule.status)):
            if verbs:
                yield {"apiGroups": [rule.kind.group], "resources": [resource], "verbs": list(verbs)}
