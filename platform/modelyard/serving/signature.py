"""Whether an archive was packaged by somebody who is trusted. Who signs is `modelyard.packaging.signing`."""

import base64
from collections.abc import Collection
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from modelyard.errors import BadInput, Tampered
from modelyard.record import record
from modelyard.serving.contents import MANIFEST, SIGNATURE, read_contents, read_member
from modelyard.spec.codec import from_json


@record
class Signature:
    """`manifest.sig`."""

    algorithm: str
    key: str
    """The public key, base64."""
    signature: str
    """Over the bytes of `manifest.json`, base64."""


def verify_signature(archive: Path, trusted: Collection[str], *, required: bool = True) -> None:
    """Check that an archive's manifest was signed by a trusted key, and that its files are those of the manifest.

    Args:
        archive: the `.mar`.
        trusted: public keys, base64.
        required: whether an archive without a signature is refused too.

    Raises:
        Tampered: no signature, one that does not fit, or one by a key that is not trusted.
    """
    read_contents(archive)
    try:
        found = from_json(Signature, read_member(archive, SIGNATURE), where=f"{archive}: {SIGNATURE}")
    except BadInput:
        if not required:
            return
        raise Tampered(f"{archive} has no signature", do="package it with the project's key") from None
    if found.algorithm != "ed25519" or found.key not in trusted:
        raise Tampered(
            f"{archive} is signed by {found.key}, not by one of {', '.join(sorted(trusted)) or 'no keys'}",
            do="trust that key, or package the model again",
        )
    try:
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(found.key))
        public.verify(base64.b64decode(found.signature), read_member(archive, MANIFEST))
    except (InvalidSignature, ValueError):
        raise Tampered(f"{archive}: the signature does not fit its manifest", do="package the model again") from None
