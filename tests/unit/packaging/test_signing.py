"""Signatures: who packaged an archive."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.fakes.small_model import entries_of, small_package

from modelyard.errors import BadInput, Tampered
from modelyard.packaging.archive import write_archive
from modelyard.packaging.signing import public_text, signing_key
from modelyard.serving.contents import read_contents
from modelyard.serving.signature import verify_signature


def test_the_key_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing.pem"
    first = public_text(signing_key(path))
    assert public_text(signing_key(path)) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_an_archive_signed_by_a_trusted_key_is_accepted(tmp_path: Path) -> None:
    key = tmp_path / "k.pem"
    packed = small_package(tmp_path, key=key)
    verify_signature(Path(packed.archive), {public_text(signing_key(key))})
    read_contents(Path(packed.archive))


def test_the_same_key_signs_to_the_same_bytes(tmp_path: Path) -> None:
    key = tmp_path / "k.pem"
    assert small_package(tmp_path / "a", key=key).digest == small_package(tmp_path / "b", key=key).digest


def test_a_key_that_is_not_trusted_is_refused_with_both_sides(tmp_path: Path) -> None:
    packed = small_package(tmp_path, key=tmp_path / "k.pem")
    other = public_text(signing_key(tmp_path / "other.pem"))
    with pytest.raises(Tampered, match=f"is signed by .*, not by one of {other.replace('+', '.').replace('/', '.')}"):
        verify_signature(Path(packed.archive), {other})


def test_an_archive_without_a_signature_is_refused_where_one_is_required(tmp_path: Path) -> None:
    packed = small_package(tmp_path)
    with pytest.raises(Tampered, match="has no signature"):
        verify_signature(Path(packed.archive), set())
    verify_signature(Path(packed.archive), set(), required=False)


def test_a_signature_of_another_manifest_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "k.pem"
    one = small_package(tmp_path / "one", key=key)
    two = small_package(tmp_path / "two", "Polite", key=key)
    mixed = entries_of(one.archive) | {"manifest.sig": entries_of(two.archive)["manifest.sig"]}
    write_archive(tmp_path / "mixed.mar", mixed)
    with pytest.raises(Tampered, match="signature does not fit its manifest"):
        verify_signature(tmp_path / "mixed.mar", {public_text(signing_key(key))})


@pytest.mark.parametrize("content", [b"", b"no key", "another kind"], ids=["empty", "text", "another kind of key"])
def test_what_is_no_ed25519_key_is_refused_by_name(tmp_path: Path, content: bytes | str) -> None:
    if isinstance(content, str):
        content = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "k.pem").write_bytes(content)
    with pytest.raises(BadInput, match=r"k.pem is no"):
        signing_key(tmp_path / "k.pem")
    assert (tmp_path / "k.pem").read_bytes() == content
