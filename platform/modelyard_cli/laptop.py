"""`up`, `down`, `status` and `predict`: the services on this machine, and a request to them."""

import json
import mimetypes
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from modelyard.errors import BadInput, StageFailed, Unavailable
from modelyard_cli import output, wiring
from modelyard_cli.options import HERE, Format, Output, ProjectPath, Watch
from modelyard_cli.view import deployment_row
from modelyard_cli.watching import watch

MOST_BYTES = 50_000_000
_NONE_YET = "no version has been brought in yet: modelyard run"


def up(project: ProjectPath = HERE, output_: Format = Output.TABLE) -> None:
    """Start MLflow, the router and the rollout loop of this project in the background, and print their addresses."""
    output.show(_addresses(wiring.up(wiring.project(project).home)), output_)


def down(project: ProjectPath = HERE) -> None:
    """Stop all that `up` or `run` started in the background. Data, versions and records stay."""
    was_up = wiring.down(wiring.project(project).home)
    typer.echo("stopped" if was_up else "nothing was running")


def status(project: ProjectPath = HERE, *, output_: Format = Output.TABLE, watch_: Watch = False) -> None:
    """Show what serves, what is coming in, and where the services are."""
    loaded = wiring.project(project)
    if watch_:
        watch(lambda: _deployments(loaded.home), empty=_NONE_YET)
        return
    yard = wiring.running(loaded.home)
    services = _addresses(yard) if yard else {}
    if output_ is not Output.TABLE:
        runs = loaded.runs()
        last = dict(runs[-1].summary()) if runs else None
        output.show({"services": services, "deployments": _deployments(loaded.home), "lastRun": last}, output_)
        return
    output.show(_deployments(loaded.home), output_, empty=_NONE_YET)
    typer.echo("")
    output.show(services, output_, empty="services are down: modelyard up")


def predict(
    request: Annotated[str, typer.Argument(help="A file (an image, or JSON), JSON itself, or - for standard input.")],
    project: ProjectPath = HERE,
    model: Annotated[str | None, typer.Option("--model", help="The model.", show_default="the project's")] = None,
) -> None:
    """Ask the model that is live, through the router, and print its answer. Which version answered goes to stderr."""
    loaded = wiring.project(project)
    body, kind = body_of(request)
    yard = wiring.running(loaded.home)
    if yard is None:
        raise Unavailable("the services are down", do="start them: modelyard up")
    import httpx  # noqa: PLC0415

    name = model or loaded.spec.metadata.name
    timeout = loaded.spec.deployment.traffic.timeout.seconds + 5
    try:
        answer = httpx.post(
            f"{yard.router}/v1/models/{name}:predict", content=body, headers={"content-type": kind}, timeout=timeout
        )
    except httpx.HTTPError as error:
        raise Unavailable(f"the router did not answer ({error!r})", do="see modelyard status") from None
    _say_answer(name, answer.status_code, answer.headers.get("x-modelyard-version", ""), answer.text)


def body_of(request: str) -> tuple[bytes, str]:
    """The bytes to send and their content type.

    Raises:
        BadInput: no such file, a folder, empty, too large, or broken JSON.
    """
    if request == "-":
        body, kind = sys.stdin.buffer.read(MOST_BYTES + 1), ""
    elif request.lstrip()[:1] in ("{", "["):
        body, kind = request.encode(), "application/json"
    else:
        path = Path(request)
        try:
            with path.open("rb") as file:
                body = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise BadInput(
                f"{request} cannot be read ({error.strerror})", do="give a file, or JSON in quotes"
            ) from None
        kind = mimetypes.guess_type(path.name)[0] or ""
    if not body:
        raise BadInput(f"{request} is empty", do="give an image or a JSON object")
    if len(body) > MOST_BYTES:
        raise BadInput(f"{request} has more than {MOST_BYTES} bytes", do="send one example at a time")
    if kind == "application/json" or (not kind and body.lstrip()[:1] in (b"{", b"[")):
        try:
            json.loads(body)
        except ValueError as error:
            raise BadInput(f"{request[:60]} is not JSON ({error})", do="give a JSON object of the features") from None
        kind = "application/json"
    return body, kind or "application/octet-stream"


def _say_answer(name: str, code: int, version: str, text: str) -> None:
    if code == 200:
        typer.echo(text.rstrip("\n"))
        typer.echo(f"version {version or '?'}", err=True)
    elif code == 404:
        raise BadInput(
            f"{name} is not served here",
            do=f"bring a version in: modelyard run, or modelyard promote {name} VERSION where one waits",
        )
    elif 400 <= code < 500:
        raise BadInput(f"{name} refused the request ({code}): {text[:500].strip()}", do="correct the request")
    else:
        by = f"version {version} of {name}" if version else name
        raise StageFailed(f"{by} answered {code}: {text[:500].strip()}", do="see modelyard status and its logs")


def _deployments(home: Path) -> list[dict[str, Any]]:
    kept = wiring.records(home)
    found = [(wish, kept.rollouts(key)) for key in kept.keys() if (wish := kept.deployment(key))]  # noqa: SIM118
    alive = wiring.running(home) is not None
    return [deployment_row(wish, rollouts, alive=alive) for wish, rollouts in found]


def _addresses(yard: Any) -> dict[str, str]:
    return {"router": yard.router, "mlflow": yard.mlflow}
