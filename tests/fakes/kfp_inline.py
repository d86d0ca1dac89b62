"""Kubeflow's local runner without its processes: what it decides is its own, each step is a call in this process.

So steps meet what a test put into this process (a registry in memory, a cluster's client), and cost nothing to start.
"""

import json
import logging
import os
import re
import traceback
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kfp import local
from kfp.dsl.executor import Executor
from kfp.local import subprocess_task_handler

Outputs = Mapping[str, Mapping[str, Any]]
"""A step's name → the parameters that it gives, for steps that are not to run. Their artifacts are empty."""


class Inline:
    """Runs pipelines; `steps` are those that began, in their order, `failed` those that failed."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.steps: list[str] = []
        self.failed: list[str] = []
        self._known: Outputs = {}
        self._folder = folder
        patch.setattr(subprocess_task_handler, "run_local_subprocess", self._run)

    def __call__(self, pipeline: Any, given: Mapping[str, Any], *, known: Outputs) -> None:
        """Run it to its end, whatever that is."""
        self._known = known
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Kubeflow's own, of images
            local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(self._folder), raise_on_error=False)
            pipeline(**given)

    def text(self, step: str, artifact: str) -> str:
        """What a step wrote."""
        (path,) = self._folder.glob(f"*/{step}/{artifact}")
        return path.read_text("utf-8")

    def _run(self, full_command: Sequence[str], env_vars: Mapping[str, str] | None = None) -> int:
        options = dict(pairwise(full_command))
        name, source = options["--function_to_execute"], full_command[full_command.index("--executor_input") - 1]
        asked = json.loads(options["--executor_input"])
        self.steps.append(name)
        if name in self._known:
            output = Path(asked["outputs"]["outputFile"])
            output.parent.mkdir(parents=True, exist_ok=True)
            made = {"parameterValues": self._known[name], "artifacts": asked["outputs"].get("artifacts", {})}
            output.write_text(json.dumps(made))
            return 0
        space: dict[str, Any] = {"__name__": "component"}
        before = dict(os.environ)
        try:
            os.environ.update(env_vars or {})
            exec(compile(re.sub(r"\A\n+", "", source), name, "exec"), space)
            Executor(executor_input=asked, function_to_execute=space[name]).execute()
        except BaseException:  # as a process that ends with it: Ctrl-C too
            logging.getLogger(__name__).info(traceback.format_exc())
            self.failed.append(name)
            return 1
        finally:
            os.environ.clear()
            os.environ.update(before)
        return 0
