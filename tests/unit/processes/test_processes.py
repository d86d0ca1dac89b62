"""Child processes never outlive us, and end in good order."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from modelyard.errors import BadInput, Unavailable
from modelyard.processes import free_port, shorten, spawn, wait_until

pytestmark = pytest.mark.process
SLEEPER = "import time, sys; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import os, signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "grandchild = subprocess.Popen([sys.executable, '-c', 'import signal, time;"
    'signal.signal(signal.SIGTERM, signal.SIG_IGN); print("up", flush=True); time.sleep(600)\'])\n'
    "print(grandchild.pid, flush=True); time.sleep(600)"
)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def words(log: Path, count: int) -> list[str]:
    return wait_until(
        lambda: (log.exists() and len(found := log.read_text().split()) >= count and found) or None,
        deadline_s=30,
        what=f"{count} words in {log}",
    )


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_child_is_alive_until_it_is_stopped(tmp_path: Path) -> None:
    child = spawn(python(SLEEPER), log=tmp_path / "log")
    words(tmp_path / "log", 1)
    assert child.alive()
    assert child.stop(5) == -signal.SIGTERM
    assert not child.alive()
    assert child.stop(5) == -signal.SIGTERM  # repeating is safe


def test_stop_ends_a_stubborn_child_and_its_grandchildren(tmp_path: Path) -> None:
    child = spawn(python(STUBBORN), log=tmp_path / "log")
    grandchild = next(int(word) for word in words(tmp_path / "log", 2) if word != "up")
    assert child.stop(0.1) == -signal.SIGKILL
    wait_until(lambda: gone(grandchild), deadline_s=10, what="the grandchild's end")


def test_a_child_that_ended_keeps_its_code_and_its_last_words(tmp_path: Path) -> None:
    child = spawn(python("import sys; print('no space left'); sys.exit(7)"), log=tmp_path / "log")
    assert child.wait(30) == 7
    assert not child.alive()
    assert child.tail() == "no space left"
    assert child.stop(1) == 7


def test_a_wait_for_a_child_that_ended_fails_at_once_with_its_log(tmp_path: Path) -> None:
    child = spawn(python("print('port in use'); raise SystemExit(3)"), log=tmp_path / "log")
    with pytest.raises(Unavailable, match=r"(?s)a port never came: .*ended with 3.*port in use"):
        wait_until(lambda: False, deadline_s=60, what="a port", child=child)
    child.stop(1)


def test_a_wait_that_is_too_long_names_what_was_waited_for() -> None:
    with pytest.raises(Unavailable, match=r"the first answer did not come within 0.05 s"):
        wait_until(lambda: None, deadline_s=0.05, what="the first answer")


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """PR_SET_PDEATHSIG follows the thread that forked: a child started from a pool must not die with its thread."""
    children = []
    thread = threading.Thread(target=lambda: children.append(spawn(python(SLEEPER), log=tmp_path / "log")))
    thread.start()
    thread.join()
    words(tmp_path / "log", 1)
    with pytest.raises(Unavailable):
        children[0].wait(0.3)
    children[0].stop(5)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
def test_children_and_their_groups_end_when_their_parent_is(tmp_path: Path, number: signal.Signals) -> None:
    """Design §5: torchrun killed leaves its ranks training for seconds."""
    log = tmp_path / "log"
    parent = subprocess.Popen(
        python(
            "import sys, time; from pathlib import Path; from modelyard.processes import spawn\n"
            f"child = spawn([sys.executable, '-c', {STUBBORN!r}], log=Path({str(log)!r}))\n"
            "print(child.pid, flush=True); time.sleep(600)"
        ),
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    grandchild = next(int(word) for word in words(log, 2) if word != "up")
    os.kill(parent.pid, number)
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: gone(child) and gone(grandchild), deadline_s=20, what="the end of child and grandchild")


def test_a_worker_that_asks_for_it_dies_with_the_process_that_forked_it(tmp_path: Path) -> None:
    worker = "from modelyard.processes import die_with_parent; die_with_parent(); import time\n"
    worker += "print('up', flush=True); time.sleep(600)"
    log = tmp_path / "log"
    launcher = f"import subprocess, sys, time; out = open({str(log)!r}, 'w')\n"
    launcher += f"worker = subprocess.Popen([sys.executable, '-c', {worker!r}], stdout=out, start_new_session=True)\n"
    launcher += "print(worker.pid, flush=True)\n"
    launcher += "time.sleep(600)"
    parent = subprocess.Popen(python(launcher), stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    words(log, 1)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: gone(pid), deadline_s=20, what="the worker's end")


def test_a_detached_child_outlives_us(tmp_path: Path) -> None:
    log = tmp_path / "log"
    pid = int(
        subprocess.check_output(
            python(
                "import sys; from pathlib import Path; from modelyard.processes import spawn\n"
                f"print(spawn([sys.executable, '-c', {SLEEPER!r}], log=Path({str(log)!r}), detached=True).pid)"
            )
        )
    )
    words(log, 1)
    assert not gone(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_command_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot run no-such-command"):
        spawn(["no-such-command"], log=tmp_path / "log")


def test_free_ports_differ() -> None:
    assert len({free_port() for _ in range(50)}) == 50


def test_a_log_is_shortened_under_the_child_that_writes_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import itertools, sys, time\nfor n in itertools.count(): print(f'{n:099}', flush=True); time.sleep(n > 999)"
    child = spawn(python(code), log=log)
    words(log, 1000)
    assert shorten(log, most=10_000)
    kept = (tmp_path / "log.1").read_text()
    assert len(kept) == 5_000
    assert int(kept.splitlines()[-1]) >= 999
    after = words(log, 1)
    assert int(after[0]) == int(kept.splitlines()[-1]) + 1, "it goes on where the kept lines end"
    assert not shorten(log, most=10_000)
    assert not shorten(tmp_path / "none")
    child.stop()
