"""`pipeline compile|upload|run|schedule|watch`: the project as a Kubeflow pipeline."""

import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard_cli import output, wiring
from modelyard_cli.options import HERE, Format, Output, ProjectPath, Set

if TYPE_CHECKING:
    from modelyard.spec.project import ModelProject
    from modelyard_pipelines.server import KfpServer, RunState


class Name(StrEnum):
    """The pipelines there are."""

    TRAIN_AND_RELEASE = "train-and-release"
    COMPARE_RECIPES = "compare-recipes"
    RETRAIN_ON_SCHEDULE = "retrain-on-schedule"
    EVALUATE_ONLY = "evaluate-only"


Which = Annotated[Name, typer.Argument(help="The pipeline.")]
Endpoint = Annotated[
    str,
    typer.Option(
        "--endpoint",
        help="Address of the Kubeflow Pipelines server.",
        show_default="KF_PIPELINES_ENDPOINT, else the cluster's",
    ),
]
User = Annotated[str, typer.Option("--namespace", "-n", help="On a server of many users: whose runs.")]
Account = Annotated[str, typer.Option("--service-account", help="Service account of the runs.")]
Root = Annotated[
    str, typer.Option("--root", help="Where artifacts go, like s3://bucket/prefix.", show_default="the server's")
]
File = Annotated[
    Path | None, typer.Option("--file", help="A compiled pipeline.", show_default="compiled now from the project")
]
SECONDS = 5.0
"""Between two questions to the server."""


def compile_(
    name: Which = Name.TRAIN_AND_RELEASE,
    *,
    project: ProjectPath = HERE,
    to: Annotated[Path | None, typer.Option("--to", help="File to write.", show_default="to the terminal")] = None,
) -> None:
    """Write the pipeline as YAML: the same bytes for the same project, sealed with their digest."""
    from modelyard.storage.atomic import write_text  # noqa: PLC0415
    from modelyard_pipelines.compiling import compiled  # noqa: PLC0415

    text = compiled(wiring.parsed(project), name)
    if to is None:
        typer.echo(text, nl=False)
    else:
        write_text(to, text)
        typer.echo(str(to))


def upload(
    name: Which = Name.TRAIN_AND_RELEASE,
    *,
    project: ProjectPath = HERE,
    file: File = None,
    endpoint: Endpoint = "",
    namespace: User = "",
) -> None:
    """Add the pipeline to the server's list, as a new version; what is there already is not added again."""
    from modelyard.storage.atomic import digest_bytes  # noqa: PLC0415

    spec = wiring.parsed(project)
    with _compiled(spec, name, file) as (path, text):
        version = digest_bytes(text.encode()).removeprefix("sha256:")[:12]
        server = _server(endpoint, namespace)
        server.upload(path, name=f"{spec.metadata.name}-{name}", version=version)
    typer.echo(f"{spec.metadata.name}-{name}, version {version}")


def run(
    name: Which = Name.TRAIN_AND_RELEASE,
    *,
    project: ProjectPath = HERE,
    file: File = None,
    set_: Set = None,
    tries: Annotated[
        list[str] | None,
        typer.Option("--try", metavar="'PATH=VALUE …'", help="compare-recipes: the changes of one recipe. Repeated."),
    ] = None,
    by: Annotated[str, typer.Option("--by", help="compare-recipes: the metric of the validation split.")] = "loss",
    version: Annotated[str, typer.Option("--version", help="evaluate-only: the registered version.")] = "",
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Take no result of an earlier run.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay until it ends, and end as it does.")] = False,
    endpoint: Endpoint = "",
    namespace: User = "",
    account: Account = "",
    root: Root = "",
    output_: Format = Output.TABLE,
) -> None:
    """Put the code into the store and start a run with the project's sections as its parameters."""
    from modelyard_pipelines.compiling import uncached  # noqa: PLC0415

    spec = wiring.parsed(project, set_)
    others = tuple(wiring.parsed(project, [*(set_ or ()), *shlex.split(one)]) for one in tries or ())
    with _compiled(spec, name, file) as (path, text):
        if no_cache:
            path.write_text(uncached(text), "utf-8")
        given = _given(spec, project, text, tries=others, by=by, version=version)
        server = _server(endpoint, namespace, account, root)
        started = server.start(path, name=_title(spec, name), parameters=given())
    output.show({"run": started, "page": server.page(started)}, output_)
    if watch:
        raise typer.Exit(_watched(server, started))


def schedule(
    name: Which = Name.RETRAIN_ON_SCHEDULE,
    *,
    cron: Annotated[
        str, typer.Option("--cron", help="Six fields, seconds first: '0 0 3 * * *' is every night at three.")
    ],
    project: ProjectPath = HERE,
    file: File = None,
    set_: Set = None,
    endpoint: Endpoint = "",
    namespace: User = "",
    account: Account = "",
    root: Root = "",
    output_: Format = Output.TABLE,
) -> None:
    """Run a pipeline again by the clock: one run at a time, none is caught up."""
    from modelyard_pipelines.submitting import check_cron  # noqa: PLC0415

    check_cron(cron)
    spec = wiring.parsed(project, set_)
    with _compiled(spec, name, file) as (path, text):
        given, server = _given(spec, project, text), _server(endpoint, namespace, account, root)
        made = server.repeat(path, name=_title(spec, name), cron=cron, parameters=given())
    output.show({"recurring run": made, "cron": cron}, output_)


def watch(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    *,
    endpoint: Endpoint = "",
    namespace: User = "",
) -> None:
    """Follow a run until it ends, and end as it does: 3 where a gate said no, 4 where it could not tell."""
    raise typer.Exit(_watched(_server(endpoint, namespace), run))


def exit_code(state: "RunState") -> int:
    """As the command ends for a run that is over."""
    done = {task.name for task in state.tasks if task.state == "SUCCEEDED"}
    if state.state != "SUCCEEDED":
        return 1
    if any(name.startswith("skipped after") for name in done):
        return 3
    return 4 if any(name.startswith("inconclusive after") for name in done) else 0


def _watched(server: "KfpServer", run: str) -> int:
    told: Mapping[str, str] = {}
    while True:
        seen = server.state(run)
        now = {task.name: task.state for task in seen.tasks}
        for task, state in now.items():
            if told.get(task) != state:
                typer.echo(f"{task}: {state}")
        told = now
        if seen.over:
            typer.echo(f"{seen.state}{f': {seen.error}' if seen.error else ''}  {server.page(run)}")
            return exit_code(seen)
        time.sleep(SECONDS)  # a poll: the server pushes nothing; Ctrl-C leaves the run as it is


@contextmanager
def _compiled(spec: "ModelProject", name: str, file: Path | None) -> Iterator[tuple[Path, str]]:
    """The pipeline as a file and its text; one that was given must be as it was compiled."""
    from modelyard.errors import BadInput  # noqa: PLC0415
    from modelyard_pipelines.compiling import compiled, unsealed  # noqa: PLC0415

    if file is not None and not file.is_file():
        raise BadInput(f"there is no {file}", do="compile it: modelyard pipeline compile --to FILE")
    text = file.read_text("utf-8", errors="replace") if file else compiled(spec, name)
    unsealed(text, name=str(file or name))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        path.write_text(text, "utf-8")
        yield path, text


def _given(
    spec: "ModelProject",
    project: Path,
    text: str,
    *,
    tries: "Sequence[ModelProject]" = (),
    by: str = "loss",
    version: str = "",
) -> Callable[[], Mapping[str, Any]]:
    """What makes a run's parameters: checked at once, while the code is put away only when it is called."""
    from modelyard_pipelines.submitting import arguments  # noqa: PLC0415

    arguments(text, spec, code="", tries=tries, by=by, version=version)

    def put() -> Mapping[str, Any]:
        from modelyard.storage.code import pack  # noqa: PLC0415
        from modelyard_pipelines.wiring import put_code  # noqa: PLC0415

        loaded = wiring.project(project)
        code = pack(loaded.folder / spec.code.path, loaded.state / "code")
        put_code(code, spec.pipeline.store)
        return arguments(text, spec, code=code.digest, tries=tries, by=by, version=version)

    return put


def _server(endpoint: str, namespace: str, account: str = "", root: str = "") -> "KfpServer":
    from modelyard_pipelines.server import connect  # noqa: PLC0415

    return connect(endpoint, namespace=namespace, account=account, root=root)


def _title(spec: "ModelProject", name: str) -> str:
    return f"{spec.metadata.name} {name} {time.strftime('%Y-%m-%d %H:%M:%S')}"
