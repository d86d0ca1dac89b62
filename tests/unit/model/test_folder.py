"""The model folder: nothing in it is opened before its digest was verified."""

import io
import json
import pickle
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fakes.small_model import FACTS, code_archive, model_folder

from modelyard.model.folder import ChangedError, FolderError, digest_file, refuse_pickle, unpack_code
from modelyard.model.predictor import Predictor, digest_of, verify, write_model_folder


def rewrite(folder: Path, **changes: Any) -> None:
    described = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(described | changes))


def test_equal_models_have_equal_digests_wherever_they_lie(tmp_path: Path) -> None:
    assert digest_of(model_folder(tmp_path / "a")) == digest_of(model_folder(tmp_path / "b"))


def test_another_recipe_setting_is_another_digest(tmp_path: Path) -> None:
    assert digest_of(model_folder(tmp_path / "a")) != digest_of(model_folder(tmp_path / "b", cls="Polite"))


def test_writing_again_replaces_what_differs_and_leaves_nothing_beside(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    before = digest_of(folder)
    settings: dict[str, Any] = {
        "kind": "eager",
        "model": tmp_path / "weights.safetensors",
        "recipe": {"use": "mlp"},
        "facts": FACTS,
        "inputs": ["image"],
    }
    after = write_model_folder(folder, **settings)
    assert before != after == digest_of(folder)
    assert write_model_folder(folder, **settings) == after
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    verify(folder)


def test_a_missing_file_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=r"gone.safetensors is no file"):
        model_folder(tmp_path, model=tmp_path / "gone.safetensors")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "code.tar"])
def test_a_changed_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = model_folder(tmp_path)
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ChangedError, match=name):
        Predictor.load(folder, work=tmp_path / "work")


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "code.tar").unlink()
    with pytest.raises(ChangedError, match=r"code.tar is missing"):
        verify(folder)


def test_a_file_that_does_not_belong_there_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "model.onnx.data").write_bytes(b"weights from elsewhere")
    with pytest.raises(ChangedError, match=r"model.onnx.data has no digest"):
        verify(folder)


def test_another_model_than_the_expected_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChangedError, match=r"not sha256:00"):
        Predictor.load(model_folder(tmp_path), work=tmp_path / "work", expected="sha256:00")


def test_a_folder_without_a_description_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=r"no model folder.*Name the folder that train made"):
        verify(tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"kind": "pickle"}, "kind is 'pickle'"),
        ({"kind": None}, "kind is None"),
        ({"strange": 1}, "unknown fields strange"),
        ({"file": "/etc/passwd"}, "names '/etc/passwd'"),
        ({"code": "../code.tar"}, r"names '\.\./code.tar'"),
        ({"files": {"../x": "sha256:0"}}, r"names '\.\./x'"),
        ({"files": []}, "files is \\[\\], not a dict"),
    ],
    ids=[
        "unknown kind",
        "no kind",
        "unknown field",
        "absolute path",
        "path that leads out",
        "digest of such",
        "a list",
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    folder = model_folder(tmp_path)
    rewrite(folder, **changes)
    with pytest.raises(FolderError, match=complaint):
        verify(folder)


def test_a_broken_description_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "model.json").write_text('{"kind": ')
    with pytest.raises(FolderError, match=r"model.json is not JSON"):
        verify(folder)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize("form", ["torch.save", "pickle"])
def test_a_pickle_where_safetensors_belong_is_refused_by_its_format(tmp_path: Path, form: str) -> None:
    """CVE-2025-32434, CVE-2026-24747: even `weights_only` had bypasses, so no pickle is opened at all."""
    path = tmp_path / "model.safetensors"
    if form == "torch.save":
        torch.save({"linear.weight": Bomb()}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(FolderError, match=r"is a pickle \(torch.save\), which can run code"):
        model_folder(tmp_path / "m", model=path)
    assert not (tmp_path / "m" / "model").exists()


@pytest.mark.parametrize("form", ["torch.save", "pickle"])
def test_a_pickle_in_a_folder_whose_digests_fit_is_refused_too(tmp_path: Path, form: str) -> None:
    folder = model_folder(tmp_path)
    weights = folder / "model.safetensors"
    torch.save({"w": Bomb()}, weights) if form == "torch.save" else weights.write_bytes(pickle.dumps(Bomb()))
    files = json.loads((folder / "model.json").read_text())["files"]
    rewrite(folder, files=files | {"model.safetensors": digest_file(weights)})
    with pytest.raises(FolderError, match="is a pickle"):
        Predictor.load(folder, work=tmp_path / "work")


@pytest.mark.parametrize("data", [b"", b"x", b"\xff" * 64], ids=["empty", "one byte", "noise"])
def test_what_is_not_safetensors_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "w").write_bytes(data)
    with pytest.raises(FolderError, match="not safetensors"):
        refuse_pickle(tmp_path / "w")


def tar_with(path: Path, name: str, kind: bytes = tarfile.REGTYPE) -> str:
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = "/etc/passwd"
        tar.addfile(member, io.BytesIO(b""))
    return digest_file(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../out.py", tarfile.REGTYPE),
        ("/abs.py", tarfile.REGTYPE),
        ("link.py", tarfile.SYMTYPE),
        ("dev", tarfile.CHRTYPE),
    ],
    ids=["leads out", "absolute", "link", "device"],
)
def test_code_that_would_land_outside_is_refused_and_nothing_is_unpacked(
    tmp_path: Path, name: str, kind: bytes
) -> None:
    digest = tar_with(tmp_path / "code.tar", name, kind)
    with pytest.raises(ChangedError, match="no plain file inside it"):
        unpack_code(tmp_path / "code.tar", digest, tmp_path / "into")
    assert not any((tmp_path / "into").rglob("*"))


def test_a_compressed_archive_is_no_code_archive(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "code.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.py"))
    with pytest.raises(ChangedError, match="no code archive"):
        unpack_code(tmp_path / "code.tar", digest_file(tmp_path / "code.tar"), tmp_path / "into")


def test_unpacked_code_that_was_changed_is_refused(tmp_path: Path) -> None:
    archive = code_archive(tmp_path / "a")
    there = unpack_code(archive, digest_file(archive), tmp_path / "into")
    assert unpack_code(archive, digest_file(archive), tmp_path / "into") == there
    (there / "recipe.py").write_text("import os")
    with pytest.raises(ChangedError, match=r"recipe.py differs"):
        unpack_code(archive, digest_file(archive), tmp_path / "into")
    shutil.rmtree(there)
    assert (unpack_code(archive, digest_file(archive), tmp_path / "into") / "names.py").is_file()
