"""MLflow's webhooks, as hints: one whose signature holds makes us poll now. What it says is not believed.

They are lost, repeated and late (mlflow/mlflow #20747, #24258); the alias that is read is the truth. So a hint that is
refused costs one poll interval at most. https://mlflow.org/docs/latest/ml/webhooks/
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping

WINDOW_S = 300.0
"""Older and younger ones are refused: a recorded delivery is of no use later."""


def is_authentic(headers: Mapping[str, str], body: bytes, *, secret: str, now: float) -> bool:
    """Whether who knows `secret` sent this within the window: `v1,<base64 of HMAC-SHA256>` over `id.timestamp.body`.

    Args:
        headers: by lower-case name.
        body: the bytes that came.
        secret: the webhook's; without one nothing is authentic.
        now: seconds since the epoch.
    """
    sent, delivery = headers.get("x-mlflow-timestamp", ""), headers.get("x-mlflow-delivery-id", "")
    version, _, signature = headers.get("x-mlflow-signature", "").partition(",")
    if not secret or version != "v1" or not sent.isascii() or not sent.isdecimal() or len(sent) > 12:
        return False
    if abs(now - int(sent)) > WINDOW_S:
        return False
    signed = f"{delivery}.{sent}.".encode() + body
    expected = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest())
    return hmac.compare_digest(expected, signature.encode())
