"""MLflow's webhooks: taken as hints, and only from who knows the secret."""

import base64
import hashlib
import hmac

import pytest

from modelyard_operator.webhooks import WINDOW_S, is_authentic

BODY = b'{"entity": "registered_model_alias", "action": "created"}'


def headers(*, secret: str = "hook", at: str = "1000000", delivery: str = "d-1", body: bytes = BODY) -> dict[str, str]:
    """As MLflow 3 signs them (`mlflow.webhooks.delivery`)."""
    signed = hmac.new(secret.encode(), f"{delivery}.{at}.{body.decode()}".encode(), hashlib.sha256).digest()
    return {
        "x-mlflow-signature": "v1," + base64.b64encode(signed).decode(),
        "x-mlflow-timestamp": at,
        "x-mlflow-delivery-id": delivery,
    }


def test_a_delivery_that_mlflow_signed_is_taken() -> None:
    assert is_authentic(headers(), BODY, secret="hook", now=1_000_010.0)


@pytest.mark.parametrize(
    ("sent", "body", "secret", "now"),
    [
        (headers(secret="other"), BODY, "hook", 1e6),
        (headers(), BODY + b" ", "hook", 1e6),
        (headers() | {"x-mlflow-delivery-id": "d-2"}, BODY, "hook", 1e6),
        (headers(), BODY, "hook", 1e6 + WINDOW_S + 1),
        (headers(), BODY, "hook", 1e6 - WINDOW_S - 1),
        (headers(secret=""), BODY, "", 1e6),
        ({}, BODY, "hook", 1e6),
        (headers(at="yesterday"), BODY, "hook", 1e6),
        (headers(at="9" * 4000), BODY, "hook", 1e6),
        (headers() | {"x-mlflow-signature": "v2," + headers()["x-mlflow-signature"][3:]}, BODY, "hook", 1e6),
        (headers() | {"x-mlflow-signature": "v1,ä"}, BODY, "hook", 1e6),
    ],
    ids=[
        "another secret",
        "another body",
        "another delivery",
        "a recorded one, played again later",
        "one from the future",
        "no secret is set",
        "no signature",
        "a time that is none",
        "a time too long to be one",
        "another version of the signature",
        "a signature that is no text of base64",
    ],
)
def test_anything_else_is_refused(sent: dict[str, str], body: bytes, secret: str, now: float) -> None:
    assert not is_authentic(sent, body, secret=secret, now=now)
