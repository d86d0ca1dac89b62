"""What a stage costs above its function under kfp's own local runner, for `orchestration_overhead.py` to stand beside.

    .venv/bin/python benchmarks/kfp_local_overhead.py

The same three stages of the digits project, as lightweight components without a virtual environment of their own. Each
step notes how long its function took; what is left of the pipeline's time is kfp's, and its steps' imports.
"""

# mypy: disable-error-code="attr-defined,no-untyped-call,operator"
import contextlib
import io
import json
import shutil
import tempfile
import time
from pathlib import Path

from kfp import dsl, local

DIGITS = Path(__file__).parent.parent / "examples" / "digits"


@dsl.component(install_kfp_package=False, base_image="python:3.11")  # type: ignore[untyped-decorator]
def prepare_step(project: str) -> str:
    """Stage 1."""
    import json
    import time
    from pathlib import Path

    from modelyard.data.prepare import prepare
    from modelyard.spec.parse import parse_project

    folder = Path(project)
    spec = parse_project(folder / "modelyard.yaml")
    began = time.perf_counter()
    prepare(spec.data, base=folder, out=folder / "data")
    with (folder / "times.jsonl").open("a") as file:
        file.write(json.dumps(time.perf_counter() - began) + "\n")
    return project


@dsl.component(install_kfp_package=False, base_image="python:3.11")  # type: ignore[untyped-decorator]
def train_step(project: str) -> str:
    """Stage 2."""
    import json
    import time
    from pathlib import Path

    from modelyard.data.prepared import load_prepared
    from modelyard.spec.parse import parse_project
    from modelyard.storage.code import pack
    from modelyard.training.job import TrainJob
    from modelyard.training.train import train

    folder = Path(project)
    code = pack(folder / "code", folder / "packed")
    job = TrainJob(
        train=parse_project(folder / "modelyard.yaml").train,
        data=str(folder / "data"),
        data_fingerprint=load_prepared(folder / "data").fingerprint,
        code=str(code.path),
        code_digest=code.digest,
    )
    began = time.perf_counter()
    train(job, out=folder / "trained")
    with (folder / "times.jsonl").open("a") as file:
        file.write(json.dumps(time.perf_counter() - began) + "\n")
    return project


@dsl.component(install_kfp_package=False, base_image="python:3.11")  # type: ignore[untyped-decorator]
def evaluate_step(project: str) -> str:
    """Stage 3."""
    import json
    import time
    from pathlib import Path

    from modelyard.evaluation.evaluate import evaluate

    folder = Path(project)
    began = time.perf_counter()
    evaluate(folder / "trained" / "model", folder / "data", "test", work=folder / "work", out=folder / "report")
    with (folder / "times.jsonl").open("a") as file:
        file.write(json.dumps(time.perf_counter() - began) + "\n")
    return project


@dsl.pipeline(name="three-stages")  # type: ignore[untyped-decorator]
def three_stages(project: str) -> str:
    """Prepare, train, evaluate."""
    prepared = prepare_step(project=project)
    trained = train_step(project=prepared.output)
    return evaluate_step(project=trained.output).output  # type: ignore[no-any-return]


def main() -> None:
    """Run the pipeline once and print one line of JSON."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "code").mkdir()
        shutil.copy(DIGITS / "modelyard.yaml", folder)
        shutil.copy(DIGITS / "recipe.py", folder / "code")
        local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "outputs"))
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            three_stages(project=str(folder))
        whole = time.perf_counter() - began
        inside = [float(line) for line in (folder / "times.jsonl").read_text().split()]
    each = (whole - sum(inside)) / len(inside)
    print(json.dumps({"steps": len(inside), "wall_s": round(whole, 2), "overhead_s_each": round(each, 2)}))


if __name__ == "__main__":
    main()
