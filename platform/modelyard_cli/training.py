"""`train`: the first two stages, training on this machine or on a cluster."""

import os
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.errors import BadInput
from modelyard.storage.port import PASSED_ON
from modelyard_cli import output, wiring
from modelyard_cli.options import HERE, Format, Output, ProjectPath, Set

if TYPE_CHECKING:
    from modelyard.spec.project import ModelProject
    from modelyard.training.submit import Launch


class On(StrEnum):
    """Where training runs."""

    LAPTOP = "laptop"
    KUBERNETES = "kubernetes"


class Cancelled(StrEnum):
    """What becomes of the job on Ctrl-C."""

    DELETE = "delete"
    SUSPEND = "suspend"


class Kind(StrEnum):
    """The kinds of job."""

    PYTORCHJOB = "PyTorchJob"
    TRAINJOB = "TrainJob"


def train(
    project: ProjectPath = HERE,
    *,
    on: Annotated[On, typer.Option("--on", help="Where to train.")] = On.LAPTOP,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="The job's namespace.", show_default="the context's")
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", help="A cluster of the kubeconfig.", show_default="the current one")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            envvar="MODELYARD_STORE",
            help="Artifact store that pods reach, s3://bucket/prefix.",
            show_default="pipeline.store",
        ),
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option("--job", help="The kind of job.", show_default="what the cluster knows")
    ] = None,
    on_cancel: Annotated[
        Cancelled | None, typer.Option("--on-cancel", help="What Ctrl-C does with the job.", show_default="delete")
    ] = None,
    set_: Set = None,
    output_: Format = Output.TABLE,
) -> None:
    """Prepare the data and train the model, here or as a job on a cluster; later stages take the result from disk.

    On a cluster every rank's log is shown as it is written and kept with the artifacts. Started again, the command
    finds the job that runs; the last checkpoint stays whatever happens.
    """
    from modelyard_cli.progress import progress  # noqa: PLC0415

    changes = wiring.overrides(set_)
    loaded = wiring.project(project)
    given = {"--namespace": namespace, "--context": context, "--job": kind, "--on-cancel": on_cancel}
    page = output.console(stderr=True)
    trainer = None
    if on is On.LAPTOP:
        if unused := [name for name, value in given.items() if value is not None]:
            raise BadInput(f"{unused[0]} cannot act on this machine", do="add --on kubernetes, or leave it out")
    else:
        from modelyard.kube.client import connect, namespace_of_context  # noqa: PLC0415
        from modelyard.training.launcher import train_on_kubernetes  # noqa: PLC0415

        spec = wiring.parsed(project / "modelyard.yaml" if project.is_dir() else project, set_)
        within = namespace or namespace_of_context(context)
        launch = launch_of(spec, within, store, kind, on_cancel or Cancelled.DELETE)
        if on_cancel is None and page.is_terminal:
            page.print("Ctrl-C deletes the job and keeps its last checkpoint; --on-cancel suspend keeps the job too.")
        trainer = partial(
            train_on_kubernetes, kube=connect(context=context), launch=launch,
            log=partial(page.print, markup=False, highlight=False, soft_wrap=True),
        )  # fmt: skip
    with progress(page) as observer:
        done = loaded.run(until="train", set=changes, observer=observer, trainer=trainer)
    told = {name: value for name, value in done.summary().items() if value not in (None, "")}
    output.show(told, output_)
    raise typer.Exit(done.exit_code)


def launch_of(
    spec: "ModelProject", namespace: str, store: str | None, kind: Kind | None, on_cancel: Cancelled
) -> "Launch":
    """Where and how the project trains on a cluster.

    Raises:
        BadInput: no store is named that pods can reach.
    """
    from modelyard.training.submit import Launch  # noqa: PLC0415

    place = store or spec.pipeline.store or ""
    if not place.startswith("s3://"):
        told = f"{place} is no store that pods can reach" if place else "no artifact store is named"
        raise BadInput(told, do="name one: --store s3://bucket/prefix")
    named: dict[str, Any] = {"api": kind.value} if kind else {}
    return Launch(
        name=spec.metadata.name, namespace=namespace, store=place, image=spec.pipeline.image or "",
        on_cancel=on_cancel.value, environment={name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **named,
    )  # fmt: skip
