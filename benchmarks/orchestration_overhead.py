"""What a stage costs above its function: keys, journal, digests, listing. Goal: at most 0.3 s for each stage.

    .venv/bin/python benchmarks/orchestration_overhead.py

Runs the digits project up to `evaluate` twice, without MLflow: once fresh, once with every result on disk. For each
stage the time of its function is taken from inside the run, so that both sides come from one call.
"""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelyard.project import Project
from modelyard.runs import walk as walking
from modelyard.runs.stages import Stage

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
inside: dict[str, float] = {}


class Timed(walking.Walk):
    """Notes how long the stage's own function took."""

    def result(
        self, stage: Stage, cls: type, settings: Mapping[str, Any], act: Callable[[Path], Any], **rest: Any
    ) -> Any:
        def timed(out: Path) -> Any:
            began = time.perf_counter()
            try:
                return act(out)
            finally:
                inside[stage] = time.perf_counter() - began

        return super().result(stage, cls, settings, timed, **rest)


def main() -> None:
    import modelyard.project as project_module

    project_module.Walk = Timed  # type: ignore[misc]
    import modelyard.runs.run  # noqa: F401  its import is no stage's

    with tempfile.TemporaryDirectory() as folder:
        for name in ("modelyard.yaml", "recipe.py"):
            shutil.copy(DIGITS / name, folder)
        numbers: dict[str, dict[str, float]] = {}
        for what in ("fresh", "cached"):
            inside.clear()
            began = time.perf_counter()
            run = Project.load(folder).run(until="evaluate")
            whole = time.perf_counter() - began
            stages = {e.stage.value: round(e.seconds - inside.get(e.stage, 0.0), 3) for e in run.record.stages}
            around = whole - sum(e.seconds for e in run.record.stages)
            whole_each = (sum(stages.values()) + around) / len(stages)  # as `kfp_local_overhead.py` reckons
            numbers[what] = stages | {"around the stages": round(around, 3), "each, all told": round(whole_each, 3)}
    print(json.dumps(numbers, indent=2))
    worst = max(stages["each, all told"] for stages in numbers.values())
    print(f"{worst:.3f} s a stage, all told; goal 0.3 s")
    sys.exit(worst > 0.3)


if __name__ == "__main__":
    main()
