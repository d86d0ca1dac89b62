"""Who packaged it: an ed25519 signature over the manifest, which names the digest of every file.

The key stands in the project's home and never leaves it. A signature says "packaged by the holder of this key";
which keys are trusted is decided by whoever serves.
"""

import base64
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from modelyard.errors import BadInput
from modelyard.serving.signature import Signature
from modelyard.storage.atomic import explained

SIGNING_KEY = Path("yard/keys/signing.pem")
"""Where a project keeps its key, below its state folder: the laptop's services trust that one."""


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The key at `path`; made there, readable by its owner alone, when there is none.

    Raises:
        BadInput: what stands there is no ed25519 key, or the place cannot be written to.
    """
    with explained(path):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(made)
            try:
                os.link(beside, path)  # whoever was first wins: two processes never sign with different keys
            except FileExistsError:
                pass
            finally:
                beside.unlink()
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise BadInput(f"{path} is no private key ({error})", do="restore it, or remove it to make one") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"{path} is no ed25519 key", do="restore it, or remove it to make one")
    return key


def public_text(key: Ed25519PrivateKey) -> str:
    """The public half, base64: what a server lists as trusted."""
    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def sign(manifest: bytes, key: Ed25519PrivateKey) -> Signature:
    """Sign the bytes of a manifest."""
    signature = base64.b64encode(key.sign(manifest)).decode()
    return Signature(algorithm="ed25519", key=public_text(key), signature=signature)
