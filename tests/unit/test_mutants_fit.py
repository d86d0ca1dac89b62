"""Each mutant is still a patch of today's code; `python tests/mutants/kill.py` shows that each is killed."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATCHES = sorted((ROOT / "tests" / "mutants").glob("*.patch"))


def test_there_are_at_least_thirty():
    assert len(PATCHES) >= 30


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_mutant_fits(patch):
    done = subprocess.run(
        ["patch", "-p1", "--dry-run", "--silent", "-i", str(patch)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"run python tests/mutants/make.py: {done.stdout}"
