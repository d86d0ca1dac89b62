"""What an answer of the Kubernetes API means when it is no success.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from modelyard.errors import Conflict, Expired, Forbidden, ModelyardError, NotInstalled, Owned, Refused, Unavailable
from modelyard.kube.port import Kind

BUSY: Final = frozenset({429, 500, 502, 503, 504})
_DENIED: Final = re.compile(r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"')


class NotFound(ModelyardError):
    """There is no such object; or, with `kind` "namespaces", no such namespace."""

    kind = ""


def meaning(status: int, body: bytes, kind: Kind, name: str = "", *, retry_after: str = "") -> ModelyardError:
    """The error that a status of 400 or more stands for; `body` is a Status object, or what a proxy says."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = {}
    details: Mapping[str, Any] = answer.get("details") or {}
    said = str(answer.get("message") or body[:200].decode(errors="replace") or f"status {status}").strip()
    if status == 404:
        return _missing(said, details, kind)
    if status in (401, 403):
        return _denied(status, said, kind, name)
    if status in BUSY:
        busy = Unavailable(f"the Kubernetes API answered {status} about {kind.plural} ({said})", do="it is asked again")
        busy.retry_after = float(retry_after) if retry_after.isdecimal() else None
        return busy
    if status == 409 and any(each.get("reason") == "FieldManagerConflict" for each in details.get("causes") or ()):
        return Owned(f"{kind.kind} {name}: {said}", do="leave these fields to their manager, or take them by force")
    if status in (409, 410):
        return Conflict(said, do="look again") if status == 409 else Expired(said, do="list again")
    return Refused(f"{kind.kind} {name}: {said}", do="change it as the message says")


def _missing(said: str, details: Mapping[str, Any], kind: Kind) -> ModelyardError:
    if details.get("name"):
        missing = NotFound(said, do="look again")
        missing.kind = str(details.get("kind", ""))
        return missing
    what = f"the cluster has no {kind.kind} ({kind.plural} of {kind.api_version})"
    return NotInstalled(what, do=f"install the custom resource definitions of {kind.group or 'the core API'}")


def _denied(status: int, said: str, kind: Kind, name: str) -> ModelyardError:
    """RBAC says which verb on which resource; a quota or an admission rule refuses this very object."""
    if found := _DENIED.search(said):
        resource = ".".join(part for part in (found["resource"], found["group"]) if part)
        return Forbidden(
            f"no right to {found['verb']} {resource} ({said})", do=f"grant {found['verb']} on {resource} in its Role"
        )
    if status == 401:
        return Forbidden(f"the Kubernetes API does not know who asks for {kind.plural}", do="check the credentials")
    return Refused(f"{kind.kind} {name}: {said}", do="change it as the message says, or the rule that refuses it")
