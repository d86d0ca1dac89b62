"""What the API server itself refuses in a pod template: the same table as `modelyard.spec.pod` checks by.

A pod's fields are taken over as they are, so that the schema names only those that a rule asks for.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from modelyard.spec import deployment
from modelyard.spec.pod import FETCH, OUR_LABELS, OUR_VOLUMES, SERVER, WHY


class Rule(NamedTuple):
    """A CEL expression that must be true, and what to say where it is not."""

    rule: str
    message: str


_ANY: Final = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_LIST: Final = {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "x-kubernetes-list-type": "atomic"}  # fmt: skip
_WORDS: Final = {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "atomic"}
_OF_POD: Final[Mapping[str, Mapping[str, Any]]] = {
    "hostNetwork": {"type": "boolean"}, "hostPID": {"type": "boolean"}, "hostIPC": {"type": "boolean"},
    "restartPolicy": {"type": "string"}, "securityContext": _ANY,
    "terminationGracePeriodSeconds": {"type": "integer", "format": "int64"},
    "activeDeadlineSeconds": {"type": "integer", "format": "int64"},
}  # fmt: skip
_OF_CONTAINER: Final[Mapping[str, Mapping[str, Any]]] = {
    "command": _WORDS, "args": _WORDS, "ports": _LIST, "lifecycle": _ANY,
    "readinessProbe": _ANY, "livenessProbe": _ANY, "startupProbe": _ANY, "securityContext": _ANY,
}  # fmt: skip
_NAME: Final = {"type": "string", "maxLength": 63, "description": "Its name, by which it is merged."}


def _refused(names: Mapping[str, Mapping[str, Any]], *, of: str = "") -> dict[str, Any]:
    return {name: {"description": f"Refused{of}: {WHY[name]}.", **kind} for name, kind in names.items()}


def _items(limit: int, description: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "array",
        "description": description,
        "maxItems": limit,
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": _NAME, **properties},
            "x-kubernetes-preserve-unknown-fields": True,
        },
    }


_HOST_PATH: Final = {"hostPath": {**_ANY, "description": "Refused: pods run restricted."}}
POD: Final[Mapping[str, Any]] = {
    "properties": {
        **_refused(_OF_POD),
        "containers": _items(
            16, f"Merged by name; ours is {SERVER}.", _refused(_OF_CONTAINER, of=f" of {SERVER} and {FETCH}")
        ),
        "initContainers": _items(
            16, f"Merged by name; ours is {FETCH}.", _refused(_OF_CONTAINER, of=f" of {SERVER} and {FETCH}")
        ),
        "volumes": _items(64, "Beside ours.", _HOST_PATH),
    }
}
"""The fields of `podTemplate.spec` that rules ask for; all others stay as they are."""


def _ours(name: str) -> Rule:
    """A field of a container that serves or fetches is ours."""
    each = (
        f"(!has(self.spec.{many}) || self.spec.{many}.all(c, c.name != '{own}' || !has(c.{name})))"
        for many, own in (("containers", SERVER), ("initContainers", FETCH))
    )
    return Rule(" && ".join(each), f"{name} of {SERVER} or {FETCH} is refused: {WHY[name]}; leave it out")


_PREFIXES: Final = " && ".join(f"!name.startsWith('{prefix}')" for prefix in OUR_LABELS)
_VOLUMES: Final = ", ".join(f"'{name}'" for name in OUR_VOLUMES)
POD_RULES: Final[Mapping[type, tuple[Rule, ...]]] = {
    deployment.PodTemplate: (
        Rule(f"!has(self.metadata) || !has(self.metadata.labels) || self.metadata.labels.all(name, {_PREFIXES})",
             f"labels below {', '.join(OUR_LABELS)} are ours: selectors need them; use others"),
        *(Rule(f"!has(self.spec) || !has(self.spec.{name})", f"{name} is refused: {WHY[name]}; leave it out")
          for name in _OF_POD),
        *(Rule(f"!has(self.spec) || ({rule.rule})", rule.message) for rule in map(_ours, _OF_CONTAINER)),
        Rule("!has(self.spec) || !has(self.spec.volumes) || self.spec.volumes.all(v, !has(v.hostPath))",
             "hostPath is refused: pods run restricted; use another volume"),
        Rule(f"!has(self.spec) || !has(self.spec.volumes) || self.spec.volumes.all(v, !(v.name in [{_VOLUMES}]))",
             f"{', '.join(OUR_VOLUMES)} are volumes of ours: give it another name"),
    ),
}  # fmt: skip
"""By the record that they stand at."""
