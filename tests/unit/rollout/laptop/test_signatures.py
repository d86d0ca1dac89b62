"""A laptop serves what its own key signed; what is unsigned only where that is allowed."""

from pathlib import Path

import pytest

from modelyard.errors import Tampered
from modelyard.packaging import signing
from modelyard.rollout.intents import EnsureArm
from modelyard.rollout.laptop import arms
from modelyard.spec.deployment import DeploymentSpec, ModelRef, Verification


def an_arm(signature):
    model = ModelRef(name="digits", alias="champion", verification=Verification(signature=signature))
    return EnsureArm(
        name="a", version="1", digest="sha256:1", replicas=1, serving=DeploymentSpec(model=model), rollout="r"
    )


@pytest.fixture
def asked(monkeypatch):
    """What the signature's check was asked, and whether a server was started."""
    calls = {}
    monkeypatch.setattr(arms, "start_server", lambda *_, **__: calls.setdefault("started", True))

    def check(archive, trusted, *, required):
        calls.update(trusted=trusted, required=required)
        if required:
            raise Tampered(f"{archive} has no signature", do="package it with the project's key")

    monkeypatch.setattr(arms, "verify_signature", check)
    return calls


def test_an_unsigned_archive_is_not_served_where_a_signature_is_required(asked, tmp_path: Path):
    with pytest.raises(Tampered, match="has no signature"):
        arms.launcher(tmp_path / "signing.pem")(tmp_path / "a.mar", an_arm("Required"), tmp_path)
    assert "started" not in asked


def test_the_home_s_own_key_is_the_one_that_is_trusted(asked, tmp_path: Path):
    key = tmp_path / "signing.pem"
    arms.launcher(key)(tmp_path / "a.mar", an_arm("IfPresent"), tmp_path)
    assert asked == {"trusted": {signing.public_text(signing.signing_key(key))}, "required": False, "started": True}
