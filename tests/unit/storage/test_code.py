"""The user's code becomes the same bytes everywhere, and nothing but plain files comes out again."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.errors import BadInput, Tampered
from modelyard.storage import code
from modelyard.storage.atomic import digest_file
from modelyard.storage.code import pack, unpack

NAMES = st.text("abcdefgh_é", min_size=1, max_size=8)
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map(
        lambda parts: "/".join(["d" + p for p in parts[:-1]] + ["f" + parts[-1]])
    ),
    st.binary(max_size=50),
    min_size=1,
    max_size=6,
)


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def packed(folder: Path, into: Path) -> list[str]:
    with tarfile.open(pack(folder, into).path) as tar:
        return tar.getnames()


@settings(max_examples=40, deadline=None)
@given(files=TREES)
def test_the_same_files_give_the_same_archive_and_come_back(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    top = tmp_path_factory.mktemp("code")
    one = write(top / "one", dict(files))
    other = write(top / "other", dict(reversed(files.items())))
    for at, path in enumerate(sorted(other.rglob("*"))):
        os.utime(path, (at, at))
        if path.is_file():
            path.chmod(0o600 if at % 2 else 0o755)
    first, second = pack(one, top / "a"), pack(other, top / "b")
    assert first.digest == second.digest == digest_file(first.path)
    assert first.path.name == f"{first.digest.removeprefix('sha256:')}.tar"
    folder = unpack(first.path, first.digest, top / "c")
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == files


def test_a_changed_file_changes_the_digest(tmp_path: Path) -> None:
    before = pack(write(tmp_path / "src", {"recipe.py": "a"}), tmp_path / "code")
    after = pack(write(tmp_path / "src", {"recipe.py": "b"}), tmp_path / "code")
    assert before.digest != after.digest


def test_what_is_no_code_stays_out(tmp_path: Path) -> None:
    files = {
        "recipe.py": "", "data/big.csv": "", "runs/a.log": "", "keep.log": "", "a/b/c.tmp": "", "build/x.py": "",
        "sub/build/x.py": "", ".git/config": "", ".modelyard/x": "", ".venv/x.py": "", "sub/__pycache__/x.pyc": "",
        "x.pyc": "", ".modelyardignore": "# not code\n\ndata/\n*.log\n!keep.log\na/**/*.tmp\n/build\n",
    }  # fmt: skip
    names = packed(write(tmp_path / "src", files), tmp_path / "code")
    assert names == [".modelyardignore", "keep.log", "recipe.py", "sub/build/x.py"]


@pytest.mark.parametrize(
    ("pattern", "out", "kept"),
    [
        ("*.txt", ["a.txt", "d/a.txt"], ["a.txt.py"]),
        ("/a.txt", ["a.txt"], ["d/a.txt"]),
        ("d/", ["d/x", "e/d/x"], ["dd/x"]),
        ("d/*.py", ["d/a.py"], ["d/e/a.py", "x/d/a.py"]),
        ("**/e/a.py", ["e/a.py", "d/e/a.py"], ["e/b.py"]),
        ("d/**", ["d/a.py", "d/e/a.py"], ["e/d.py"]),
        ("?.py", ["a.py"], ["ab.py"]),
        ("[ab].py", ["a.py"], ["c.py"]),
        ("[!ab].py", ["c.py"], ["a.py"]),
        (r"\#a", ["#a"], ["a"]),
        ("a b ", ["a b"], ["a"]),
        ("*\n!d\n!d/a.py", ["b.py", "d/b.py"], ["d/a.py"]),
    ],
)
def test_the_ignore_file_reads_as_git_does(tmp_path: Path, pattern: str, out: list[str], kept: list[str]) -> None:
    folder = write(tmp_path / "src", dict.fromkeys(out + kept, "") | {".modelyardignore": pattern})
    assert [name for name in packed(folder, tmp_path / "code") if name != ".modelyardignore"] == sorted(kept)


def test_a_link_within_the_folder_is_packed_as_what_it_points_to(tmp_path: Path) -> None:
    folder = write(tmp_path / "src", {"real.py": "x", "deep/b.py": "y"})
    (folder / "link.py").symlink_to("real.py")
    (folder / "linked").symlink_to("deep")
    assert packed(folder, tmp_path / "code") == ["deep/b.py", "link.py", "linked/b.py", "real.py"]


def test_a_link_that_leads_out_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, {"secret": "s"})
    folder = write(tmp_path / "src", {"recipe.py": ""})
    (folder / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(BadInput, match="src/out leads out of the code folder"):
        pack(folder, tmp_path / "code")
    assert not (tmp_path / "code").exists()


def test_a_link_that_leads_out_may_be_ignored(tmp_path: Path) -> None:
    folder = write(tmp_path / "src", {"recipe.py": "", ".modelyardignore": "out"})
    (folder / "out").symlink_to("/etc")
    assert packed(folder, tmp_path / "code") == [".modelyardignore", "recipe.py"]


def test_a_link_in_a_circle_or_to_nowhere_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "src", {"d/recipe.py": ""})
    (folder / "d" / "up").symlink_to("..")
    with pytest.raises(BadInput, match="in a circle"):
        pack(folder, tmp_path / "code")
    (folder / "d" / "up").unlink()
    (folder / "gone").symlink_to("nothing")
    with pytest.raises(BadInput, match="leads nowhere"):
        pack(folder, tmp_path / "code")


def test_a_folder_of_two_gigabytes_is_refused_with_its_largest_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "src", {"recipe.py": "", "weights/model.bin": ""})
    os.truncate(folder / "weights" / "model.bin", 2_000_000_000)  # takes no space
    with pytest.raises(BadInput, match=r"2000 MB.*weights/model.bin \(2000 MB\).*modelyardignore"):
        pack(folder, tmp_path / "code")
    assert not (tmp_path / "code").exists()


def test_a_pipe_in_the_folder_neither_hangs_nor_is_packed(tmp_path: Path) -> None:
    folder = write(tmp_path / "src", {"recipe.py": ""})
    os.mkfifo(folder / "pipe")
    assert packed(folder, tmp_path / "code") == ["recipe.py"]


def test_a_code_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere is no folder"):
        pack(tmp_path / "nowhere", tmp_path / "code")


def test_unpacking_again_gives_the_same_folder_and_notices_a_change(tmp_path: Path) -> None:
    archive = pack(write(tmp_path / "src", {"recipe.py": "x"}), tmp_path / "code")
    folder = unpack(archive.path, archive.digest, tmp_path / "into")
    (folder / "__pycache__").mkdir()  # what importing leaves behind is no change
    assert unpack(archive.path, archive.digest, tmp_path / "into") == folder
    (folder / "recipe.py").write_text("y")
    with pytest.raises(Tampered, match=r"recipe\.py differs from its archive"):
        unpack(archive.path, archive.digest, tmp_path / "into")


def test_an_archive_with_another_digest_is_never_opened(tmp_path: Path) -> None:
    archive = pack(write(tmp_path / "src", {"recipe.py": "x"}), tmp_path / "code")
    archive.path.write_bytes(archive.path.read_bytes() + b"\0")
    with pytest.raises(Tampered, match="has digest"):
        unpack(archive.path, archive.digest, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_an_archive_that_is_gone_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no code archive"):
        unpack(tmp_path / "gone.tar", "sha256:0", tmp_path / "into")


@pytest.mark.parametrize(
    "member",
    [
        {"name": "../out.py"},
        {"name": "/etc/out.py"},
        {"name": "a/../../out.py"},
        {"name": "link", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"name": "hard", "type": tarfile.LNKTYPE, "linkname": "/etc/passwd"},
        {"name": "device", "type": tarfile.CHRTYPE},
        {"name": "pipe", "type": tarfile.FIFOTYPE},
    ],
    ids=lambda member: member["name"],
)
def test_a_member_that_is_no_plain_file_inside_is_refused(tmp_path: Path, member: dict[str, object]) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("fine.py"), io.BytesIO())
        info = tarfile.TarInfo()
        for name, value in member.items():
            setattr(info, name, value)
        tar.addfile(info, io.BytesIO())
    with pytest.raises(Tampered, match="no plain file inside"):
        unpack(path, digest_file(path), tmp_path / "into")
    assert not list((tmp_path / "into").iterdir())
    assert not (tmp_path / "out.py").exists()


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(write(tmp_path / "src", {"a": b"x" * 600, "b": b"x" * 600}), tmp_path / "code")
    monkeypatch.setattr(code, "LIMIT_BYTES", 1000)
    with pytest.raises(Tampered, match="unpacks to more than"):
        unpack(archive.path, archive.digest, tmp_path / "into")
    assert not list((tmp_path / "into").iterdir())


def test_a_compressed_archive_is_not_opened(tmp_path: Path) -> None:
    """A small file cannot unpack into a big folder: ours are never compressed."""
    path = tmp_path / "small.tar"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("fine.py"), io.BytesIO())
    with pytest.raises(Tampered, match="no code archive"):
        unpack(path, digest_file(path), tmp_path / "into")
