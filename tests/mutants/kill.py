"""Show that the tests kill every mutant: each patch is applied to a copy, and the tests of its part must fail there.

    python tests/mutants/kill.py [NAME…]

A mutant that lives, or a patch that does not fit any more (run `make.py` again), ends this with 1.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = {
    "rollout": [f"tests/unit/rollout/test_{name}.py"
                for name in ("analysis", "readings", "bursts", "guardrails", "drift", "analysis_properties",
                             "pairs", "prometheus")],
    "statistics": ["tests/unit/statistics"],
    "evaluation": ["tests/unit/evaluation/test_rules.py", "tests/unit/evaluation/test_gate_beside.py",
                   "tests/unit/evaluation/test_gate.py", "tests/unit/evaluation/test_scores.py",
                   "tests/unit/evaluation/test_metrics.py", "tests/unit/evaluation/test_parts.py",
                   "tests/unit/evaluation/test_stream.py"],
    "runs": ["tests/unit/runs/test_unlearnt.py"],
}  # fmt: skip


def tests_of(patch: Path) -> list[str]:
    """The tests that must fail."""
    part = patch.read_text().split("platform/modelyard/")[1].split("/")[0]
    return TESTS[part]


def killed(patch: Path, python: str = sys.executable) -> str:
    """How a mutant ended: the test that failed; empty when it lives.

    Raises:
        RuntimeError: the patch does not fit.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as where:
        copy = Path(where)
        # the real modelyard stands on the path by its editable install: the copy must come first
        shutil.copytree(ROOT / "platform", copy / "platform", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("tests", "benchmarks"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        fits = subprocess.run(
            ["patch", "-p1", "--silent", "-i", str(patch)], cwd=copy, capture_output=True, check=False
        )
        if fits.returncode:
            raise RuntimeError(f"{patch.name} does not fit any more: run tests/mutants/make.py")
        there = [test for test in tests_of(patch) if (copy / test).exists()]
        command = [python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", *there]
        environment = {**os.environ, "PYTHONPATH": str(copy / "platform"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{patch.name}: the tests did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
        return failed[0].removeprefix("FAILED ").split(" - ")[0] if done.returncode else ""


def main(names: list[str]) -> int:
    """Try all mutants, or those named."""
    patches = [patch for patch in sorted(Path(__file__).parent.glob("*.patch")) if not names or patch.stem in names]
    living = 0
    for patch in patches:
        by = killed(patch)
        living += not by
        sys.stdout.write(f"{'killed' if by else 'LIVES '} {patch.stem:36} {by}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(patches) - living} of {len(patches)} killed\n")
    return int(living > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
