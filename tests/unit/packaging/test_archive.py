"""The archive: the same bytes everywhere, and nothing in it that its manifest does not name."""

import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.small_model import entries_of, small_package

from modelyard.errors import BadInput, Tampered
from modelyard.packaging.archive import unpack_model, write_archive
from modelyard.packaging.package import Package
from modelyard.serving.contents import read_contents


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return small_package(tmp_path_factory.mktemp("packed"))


def remade(packed: Package, path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    content = entries_of(packed.archive)
    change(content)
    write_archive(path, content)
    return path


def test_the_same_model_makes_the_same_bytes_elsewhere(packed: Package, tmp_path: Path) -> None:
    """Twice, in other folders and at other times: torch-model-archiver's differ."""
    assert small_package(tmp_path).digest == packed.digest


def test_the_archive_holds_what_a_server_needs_and_no_pickle(packed: Package) -> None:
    names = set(entries_of(packed.archive))
    assert {"MAR-INF/MANIFEST.json", "modelyard_handler.py", "modelyard/model/predictor.py", "golden.json"} <= names
    assert {"manifest.json", "model/model.json", "model/model.safetensors", "model/code.tar"} <= names
    assert not [name for name in names if name.endswith((".pt", ".pkl", ".bin"))]


def test_its_contents_are_read_back(packed: Package) -> None:
    contents = read_contents(Path(packed.archive))
    assert contents.manifest.model == packed.model_digest
    assert len(contents.golden.requests) == 8
    assert set(contents.manifest.files) == set(entries_of(packed.archive)) - {"manifest.json"}


def changed_weights(content: dict[str, bytes]) -> None:
    content["model/model.safetensors"] += b"\0"


def changed_handler(content: dict[str, bytes]) -> None:
    content["modelyard_handler.py"] += b"\nimport os"


def stranger(content: dict[str, bytes]) -> None:
    content["sitecustomize.py"] = b"import os"


def traversal(content: dict[str, bytes]) -> None:
    content["../../out.py"] = b"import os"


def absolute(content: dict[str, bytes]) -> None:
    content["/etc/cron.d/x"] = b"* * * * *"


def backslash(content: dict[str, bytes]) -> None:
    content["..\\out.py"] = b"import os"


def less(content: dict[str, bytes]) -> None:
    del content["model/code.tar"]


def no_manifest(content: dict[str, bytes]) -> None:
    del content["manifest.json"]


def broken_manifest(content: dict[str, bytes]) -> None:
    content["manifest.json"] = b'{"name": '


@pytest.mark.parametrize(
    ("change", "error", "complaint"),
    [
        (changed_weights, Tampered, r"'model/model.safetensors' has digest sha256:\w+, not sha256:"),
        (changed_handler, Tampered, r"'modelyard_handler.py' has digest"),
        (stranger, Tampered, r"'sitecustomize.py', which its manifest does not name"),
        (traversal, Tampered, r"'../../out.py', which leads out of it"),
        (absolute, Tampered, r"'/etc/cron.d/x', which leads out of it"),
        (backslash, Tampered, r"leads out of it"),
        (less, Tampered, r"lacks 'model/code.tar'"),
        (no_manifest, BadInput, r"has no manifest.json"),
        (broken_manifest, BadInput, r"manifest.json is not JSON"),
    ],
)
def test_an_archive_that_was_changed_is_refused_by_name(
    packed: Package,
    tmp_path: Path,
    change: Callable[[dict[str, bytes]], None],
    error: type[Exception],
    complaint: str,
) -> None:
    archive = remade(packed, tmp_path / "a.mar", change)
    with pytest.raises(error, match=complaint):
        read_contents(archive)
    with pytest.raises(error, match=complaint):
        unpack_model(archive, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.mar", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("manifest.json", b"0" * 50_000_000)
    with pytest.raises(Tampered, match=r"unpacks to more than that, at 'manifest\.json'"):
        read_contents(tmp_path / "bomb.mar")


def test_a_link_in_an_archive_is_refused(packed: Package, tmp_path: Path) -> None:
    archive = remade(packed, tmp_path / "a.mar", lambda _: None)
    with zipfile.ZipFile(archive, "a") as zipped:
        link = zipfile.ZipInfo("model/link")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(link, "/etc/passwd")
    with pytest.raises(Tampered, match="'model/link', which is no plain file"):
        read_contents(archive)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(packed: Package, tmp_path: Path) -> None:
    archive = remade(packed, tmp_path / "a.mar", lambda _: None)
    with zipfile.ZipFile(archive, "a") as zipped:
        zipped.writestr("golden.json", b"{}")
    with pytest.raises(Tampered, match=r"holds 'golden.json' twice"):
        read_contents(archive)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.999], ids=["empty", "100 bytes", "half", "without its end"])
def test_an_archive_that_was_cut_short_is_refused(packed: Package, tmp_path: Path, keep: float) -> None:
    data = Path(packed.archive).read_bytes()
    (tmp_path / "cut.mar").write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    with pytest.raises(Tampered, match="no whole zip file"):
        read_contents(tmp_path / "cut.mar")


def test_an_archive_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone.mar cannot be read"):
        read_contents(tmp_path / "gone.mar")


def test_the_model_folder_comes_out_of_the_archive_as_it_went_in(packed: Package, tmp_path: Path) -> None:
    folder = unpack_model(Path(packed.archive), tmp_path / "model")
    for path in Path(packed.folder).iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_a_model_folder_that_was_left_half_is_unpacked_again(packed: Package, tmp_path: Path) -> None:
    folder = unpack_model(Path(packed.archive), tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"half")
    described = json.loads((unpack_model(Path(packed.archive), folder) / "model.json").read_text())
    assert described["variant"] == "fp32"
    assert (folder / "model.safetensors").stat().st_size > 100
