"""In a container the process that starts another one is number 1, which elsewhere is who takes in orphans."""

import shutil
import subprocess
import sys

import pytest

WORKER = "from modelyard.processes import die_with_parent; die_with_parent(); print('goes on', flush=True)"
FIRST = f"import os, subprocess, sys; assert os.getpid() == 1; subprocess.run([sys.executable, '-c', {WORKER!r}])"
AS_FIRST = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run([*AS_FIRST, "true"], capture_output=True, check=False).returncode,
    reason="namespaces cannot be made here",
)
def test_a_worker_of_process_1_of_a_container_goes_on() -> None:
    """Regression: each training on a cluster was killed by SIGTERM at its start, and never on a laptop."""
    done = subprocess.run([*AS_FIRST, sys.executable, "-c", FIRST], capture_output=True, text=True, check=False)
    assert done.stdout == "goes on\n", done.stderr
