"""docs/walkthrough.md, done as a new user would: every file, command and line of output of the page, in order."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(900)]

PAGE = Path(__file__).parents[2] / "docs" / "walkthrough.md"
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MOST_SECONDS = 300.0
TOO_LONG = 124


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its `title=` or `exit=`, its text, and the line that it begins in."""

    language: str
    title: str
    exit: int
    text: str
    line: int


def blocks() -> list[Block]:
    page = PAGE.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(page):
        marks = dict(mark.split("=", 1) for mark in match[2].split())
        line = page.count("\n", 0, match.start()) + 1
        found.append(Block(match[1], marks.pop("title", ""), int(marks.pop("exit", "0")), match[3], line))
        assert not marks, f"line {line}: {marks} is not understood"
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder; whatever was started in it is stopped."""
    start = tmp_path / "start"
    start.mkdir()
    yield start
    if (start / "mine" / ".modelyard").exists():
        shell("modelyard down", start / "mine")


def shell(script: str, cwd: Path) -> tuple[int, str]:
    """Run a block as `sh -e` would, with an empty home and nothing of this environment but the path: code, output."""
    home = cwd.parent / "home"
    home.mkdir(exist_ok=True)
    env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home), "LANG": "C.UTF-8"}
    kept = {name: os.environ[name] for name in ("TMPDIR", "JAVA_HOME") if name in os.environ}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as told:
        started = subprocess.Popen(
            ["sh", "-e", "-c", script], cwd=cwd, env=env | kept, stdout=told, stderr=told, start_new_session=True
        )
        try:
            code = started.wait(MOST_SECONDS)
        except subprocess.TimeoutExpired:
            code = TOO_LONG
        finally:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)  # what a failed block left in the background
            started.wait()
        told.seek(0)
        return code, told.read()


def test_the_page_is_what_happens(folder: Path) -> None:
    """From `init` to the champion in Python; the page's numbers are examples, all else of its output is compared."""
    cwd, told = folder, ""
    for block in blocks():
        where = f"docs/walkthrough.md, line {block.line}"
        if block.language == "diff":
            change(cwd / block.title, block.text)
        elif block.title:
            (cwd / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            code, told = shell(block.text, cwd)
            assert code == block.exit, f"{where}: exit code {code}\n{block.text}\n{told}"
            assert "Traceback" not in told, f"{where}:\n{told}"
        else:
            assert block.language == "text", f"{where}: what is ```{block.language} without a title?"
            missing = first_missing(block.text, told)
            assert missing is None, f"{where}: {missing!r} is not what came:\n{told}"
        if (folder / "mine").exists():
            cwd = folder / "mine"
    assert not running(folder), "what was started is stopped at the end"


def change(file: Path, diff: str) -> None:
    """Replace the lines with `-` by those with `+`."""
    old, new = ("".join(f"{line[1:]}\n" for line in diff.splitlines() if line[0] == sign) for sign in "-+")
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file.name} does not hold what the page changes:\n{old}"
    file.write_text(text.replace(old, new), encoding="utf-8")


def first_missing(shown: str, told: str) -> str | None:
    """The first line shown that did not come, in the order of the page; numbers and spaces aside."""
    lines = iter([plain(line) for line in told.splitlines()])
    return next((one for one in shown.splitlines() if not any(plain(one) in line for line in lines)), None)


def plain(line: str) -> str:
    return " ".join(re.sub(r"(?<![A-Za-z])\d+(\.\d+)?", "#", line).split())


def running(folder: Path) -> list[str]:
    """Command lines of processes that speak of this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ("✓ train done 1.4 s: 6 epochs", "✓ train     done 28.1 s: 6 epochs, 1 process"),
        ("mine 1 1/1 champion → 1", "mine    1        1/1     champion → 1   mine-00001"),
    ],
)
def test_numbers_and_spaces_are_not_compared(shown: str, told: str) -> None:
    assert first_missing(shown, told) is None


def test_other_words_and_another_order_are_seen() -> None:
    assert first_missing("✓ train done", "✗ train failed") == "✓ train done"
    assert first_missing("b\na", "a\nb") == "a"
