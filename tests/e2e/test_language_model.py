"""The example of a language model, as its README says: its commands in order, in a copy. Minutes of CPU, so nightly."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.language import EXAMPLE

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.environ.get("HYPOTHESIS_PROFILE") != "nightly", reason="make nightly: minutes of CPU"),
]
COMMANDS = re.search(r"^```sh\n(.*?)^```$", (EXAMPLE / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    made = shutil.copytree(EXAMPLE, tmp_path / "language", ignore=shutil.ignore_patterns("__pycache__", ".modelyard"))
    yield made
    asked(made, "modelyard down")


def asked(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    here = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        command, shell=True, cwd=folder, env=here, capture_output=True, text=True, timeout=3000, check=False
    )


def test_the_commands_of_its_readme_lead_from_text_to_an_archive_that_a_server_answered_from(folder: Path) -> None:
    assert COMMANDS
    said = []
    for command in COMMANDS[1].splitlines():
        done = asked(folder, command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        said.append(done.stdout + done.stderr)
    told = "\n".join(said)
    assert "2 processes" in told
    assert re.search(r"gate +done", told)
    assert re.search(r"package +done", told)
    assert list(folder.glob(".modelyard/stages/package/*/*.mar"))
