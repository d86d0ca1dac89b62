"""`make demo` keeps its promises: three versions, no failed request but the bad canary's own, everything stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

DEMO = Path(__file__).parents[2] / "examples" / "digits" / "demo.py"

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_demo_takes_three_versions_all_the_way_and_leaves_nothing_running(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO)],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
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
