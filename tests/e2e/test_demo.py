"""`make demo` keeps its promises: three versions, no failed request but the bad canary's own, everything stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

DEMO = Path(__file__).parents[2] / "examples" / "digits" / "demo.py"

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(900)]


def run_demo(folder: Path) -> "subprocess.CompletedProcess[str]":
    env = os.environ | {"HOME": str(folder)}
    argv = [sys.executable, str(DEMO)]
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=400, check=False)


def test_the_demo_takes_three_versions_all_the_way_and_leaves_nothing_running(tmp_path: Path) -> None:
    """Once more when it did not hold: the live analysis may err once in a hundred times by its own wish, and
    a machine that stalls for seconds in mid-canary is evidence too. Twice in a row is a fault."""
    done = run_demo(tmp_path)
    if done.returncode:
        sys.stderr.write(f"the first run did not hold:\n{done.stdout[-3000:]}")
        done = run_demo(tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    summary = json.loads((tmp_path / ".modelyard" / "demo" / "summary.json").read_text())
    assert [row["outcome"] for row in summary["versions"]] == ["stable", "stable", "rolled-back"]
    assert set(summary["requests"]["failed_by_version"]) <= {"3"}
    assert summary["champion"] == "2"
    assert summary["versions"][2]["tags"]["modelyard.rollout"] == "failed"
    assert "Traceback" not in done.stderr
    ours = str(tmp_path)
    left = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if ours in " ".join(p.info["cmdline"] or [])]
    assert left == []
