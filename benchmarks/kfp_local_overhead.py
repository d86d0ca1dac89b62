"""What a step of ours costs beyond Kubeflow's own: CPU seconds of an empty step, and of ours without a stage.

Both run as Kubeflow's executor runs them, as processes of their own. Ours reads its sections, opens a state folder,
begins and ends a run in MLflow; that is a stub which answers at once, since its time is not ours.

    python benchmarks/kfp_local_overhead.py [--steps 15]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

EMPTY = '''
from kfp import dsl
from typing import NamedTuple

def step(model: str, words: dsl.Output[dsl.Markdown]) -> NamedTuple("Said", [("outcome", str)]):
    """Nothing."""
    open(words.path, "w").write(model)
    return ("Promoted",)
'''
OURS = '''
from kfp import dsl
from typing import NamedTuple

def step(model: str, words: dsl.Output[dsl.Markdown]) -> NamedTuple("Said", [("outcome", str)]):
    """What is ours around each stage, and no stage."""
    from modelyard_pipelines.sections import project_of
    from modelyard_pipelines.step import step

    with step("promote", project_of(model=model)) as at:
        open(words.path, "w").write(at.project.metadata.name)
    return ("Promoted",)
'''


class Stub(BaseHTTPRequestHandler):
    """As much of MLflow as `promote` asks."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        run = {"run": {"info": {"run_id": "r1"}}, "runs": [], "experiment": {"experiment_id": "1"}}
        said = {
            **run,
            "model_version": {"name": "m", "version": "1", "tags": [{"key": "modelyard.digest", "value": "d"}]},
        }
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815 - the server's names

    def log_message(self, *_: object) -> None:
        """Nothing."""


def seconds(source: str, folder: Path, environment: dict[str, str]) -> float:
    """CPU seconds of one step."""
    (folder / "component.py").write_text(textwrap.dedent(source))
    output = {"artifacts": {"words": {"artifacts": [{"name": "words", "type": {"schemaTitle": "system.Markdown"},
              "uri": str(folder / "words"), "metadata": {}}]}}, "outputFile": str(folder / "output.json"),
              "parameters": {"outcome": {"outputFile": str(folder / "outcome")}}}  # fmt: skip
    given = {"inputs": {"parameterValues": {"model": "m"}}, "outputs": output}
    argv = [sys.executable, "-m", "kfp.dsl.executor_main", "--component_module_path", str(folder / "component.py"),
            "--executor_input", json.dumps(given), "--function_to_execute", "step"]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, check=True, env=environment, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=15, help="of each kind, in turns")
    count = parser.parse_args().steps
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_address[1]}"
    environment = {**os.environ, "_KFP_RUNTIME": "true", "MLFLOW_TRACKING_URI": uri, "MODELYARD_JOB": "benchmark"}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        pairs = [(seconds(EMPTY, folder, environment), seconds(OURS, folder, environment)) for _ in range(count + 1)][
            1:
        ]
    server.shutdown()
    empty, ours = zip(*pairs, strict=True)
    over = [one - other for other, one in pairs]
    own, both = statistics.median(empty), statistics.median(ours)
    print(f"Kubeflow's own {own:.3f} s, with ours {both:.3f} s of CPU a step (medians of {count})")
    print(f"overhead {statistics.median(over):.3f} s (of CPU; {min(over):.3f} to {max(over):.3f}); wanted below 0.2 s")


if __name__ == "__main__":
    main()
