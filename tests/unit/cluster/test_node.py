"""What can be known of the node without one."""

import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from tests.cluster import build, daemons, images, machine
from tests.e2e.cluster import stage
from tests.e2e.cluster.site import Site


def test_an_image_of_files_is_a_layout_whose_digests_fit(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"\x7fELF")
    archive = tmp_path / "image.tar"

    images.write_image("example.test/program:1", archive, {"program": tmp_path / "program"}, command=("/program",))

    with tarfile.open(archive) as layout:
        blobs = {name: layout.extractfile(name).read() for name in layout.getnames()}  # type: ignore[union-attr]
    manifest = json.loads(blobs["index.json"])["manifests"][0]
    assert manifest["annotations"]["io.containerd.image.name"] == "example.test/program:1"
    for name, content in blobs.items():
        if name.startswith("blobs/"):
            assert hashlib.sha256(content).hexdigest() == Path(name).name
    config = json.loads(blobs[f"blobs/sha256/{json.loads(blobs[_blob(manifest)])['config']['digest'][7:]}"])
    assert config["config"]["Entrypoint"] == ["/program"]


def test_the_same_files_make_the_same_image(tmp_path: Path) -> None:
    for number in (1, 2):
        program = tmp_path / f"program{number}"
        program.write_bytes(b"\x7fELF")
        os.utime(program, (number, number))
        images.write_image("example.test/p:1", tmp_path / f"{number}.tar", {"p": program}, command=("/p",))

    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_a_node_without_root_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(machine.NotPossible, match=r"needs root.*sudo"):
        machine.check()
    assert machine.main(["check"]) == machine.CANNOT


def test_a_run_without_what_builds_images_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool in machine.BUILDERS else f"/usr/bin/{tool}")

    with pytest.raises(machine.NotPossible, match=r"missing: buildah, debootstrap: apt-get install .*debootstrap"):
        machine.check_run()


def test_a_cluster_whose_context_was_not_named_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def kubectl(_: Site, *words: str, **__: object) -> str:
        asked.append(words)
        return "production\n"

    monkeypatch.setattr(Site, "kubectl", kubectl)
    monkeypatch.setenv(stage.GIVEN, str(tmp_path / "config"))
    monkeypatch.setenv(stage.ALLOWED, "kind-modelyard")

    with pytest.raises(AssertionError, match="'production'"), stage.cluster(stage.Timed()):
        pass
    assert asked == [("config", "current-context")]


def test_every_daemon_of_the_node_is_a_program_that_is_built(tmp_path: Path) -> None:
    programs = {name: Path("/bin") / name for name in build.NODE}

    started = daemons.daemons(tmp_path, programs)

    assert [each.name for each in started][:2] == ["etcd", "kube-apiserver"]
    assert {str(each.argv[0]) for each in started} <= {str(path) for path in programs.values()}


def _blob(descriptor: dict[str, str]) -> str:
    return f"blobs/sha256/{descriptor['digest'].partition(':')[2]}"
