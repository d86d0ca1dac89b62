"""What the answers of a Kubernetes API mean, in the words that the operator's conditions show."""

import json
from typing import Any

import pytest

from modelyard.errors import Conflict, Expired, Forbidden, ModelyardError, NotInstalled, Owned, Refused, Unavailable
from modelyard.kube.answers import NotFound, meaning
from modelyard.kube.port import DEPLOYMENT, HTTP_ROUTE


def status(message: str, **details: Any) -> bytes:
    return json.dumps({"kind": "Status", "message": message, "details": details}).encode()


RBAC = 'a is forbidden: User "x" cannot patch resource "deployments" in API group "apps" in the namespace "a"'
CORE = 'secrets is forbidden: User "x" cannot list resource "secrets" in API group "" at the cluster scope'
QUOTA = 'deployments.apps "a" is forbidden: exceeded quota: team, requested: count/deployments.apps=1'
DISPUTE = {"causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "hpa"', "field": ".spec.replicas"}]}


@pytest.mark.parametrize(
    ("code", "body", "error", "told"),
    [
        (404, status("not found", name="a", kind="deployments"), NotFound, "not found"),
        (404, b"404 page not found\n", NotInstalled, "the cluster has no Deployment (deployments of apps/v1)"),
        (409, status("the object has been modified", name="a"), Conflict, "has been modified"),
        (409, status("Apply failed with 1 conflict: .spec.replicas", **DISPUTE), Owned, "Deployment a: Apply failed"),
        (410, status("too old resource version: 1 (7)"), Expired, "too old"),
        (403, status(RBAC, name="a"), Forbidden, "no right to patch deployments.apps"),
        (403, status(CORE), Forbidden, "no right to list secrets ("),
        (403, status(QUOTA, name="a"), Refused, "Deployment a: deployments.apps \"a\" is forbidden: exceeded quota"),
        (401, status("Unauthorized"), Forbidden, "does not know who asks for deployments"),
        (422, status("spec.replicas: Invalid value: -1"), Refused, "Deployment a: spec.replicas: Invalid value: -1"),
        (400, status('strict decoding error: unknown field "spec.x"'), Refused, 'unknown field "spec.x"'),
        (413, b"too large", Refused, "too large"),
        (429, status("too many requests"), Unavailable, "answered 429 about deployments (too many requests)"),
        (500, status("etcdserver: request timed out"), Unavailable, "etcdserver: request timed out"),
        (503, b"<html>bad gateway of a proxy</html>", Unavailable, "bad gateway of a proxy"),
        (504, b"", Unavailable, "status 504"),
    ],
)  # fmt: skip
def test_an_answer_means_what_can_be_done_about_it(
    code: int, body: bytes, error: type[ModelyardError], told: str
) -> None:
    found = meaning(code, body, DEPLOYMENT, "a")
    assert type(found) is error
    assert told in found.what
    assert found.do


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)])
def test_the_server_says_how_long_to_leave_it_alone(header: str, seconds: float | None) -> None:
    found = meaning(429, b"", DEPLOYMENT, retry_after=header)
    assert isinstance(found, Unavailable)
    assert found.retry_after == seconds


def test_a_missing_definition_says_whose_it_is() -> None:
    assert "gateway.networking.k8s.io" in meaning(404, b"404 page not found", HTTP_ROUTE).do


def test_a_missing_right_says_what_to_grant() -> None:
    assert "grant patch on deployments.apps" in meaning(403, status(RBAC), DEPLOYMENT).do
