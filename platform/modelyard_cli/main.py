"""The `modelyard` command: the table of its commands, and what becomes of an error.

Nothing that is slow to import is imported here: `modelyard --help` answers at once.
"""

import os
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from modelyard.errors import ModelyardError
from modelyard_cli import caring, explaining, gates, laptop, pipeline, reigning, releasing, running, starting, training
from modelyard_cli.wiring import in_cluster

EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 bad input, 3 a gate or the live analysis said no, 4 inconclusive, 130 interrupted."
)


class Group(TyperGroup):
    """Commands whose errors are told in one line, with what to do, and end with their exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except ModelyardError as error:
            if ctx.params.get("debug") or os.environ.get("MODELYARD_DEBUG"):
                raise
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None


def _say(on: bool) -> None:
    if on:
        typer.echo(f"modelyard {version('modelyard')}")
        raise typer.Exit


app = typer.Typer(
    name="modelyard",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog=f"Start here: modelyard init digits && cd digits && modelyard run\n\n{EXIT_CODES}",
    context_settings={"help_option_names": ["-h", "--help"]},
)
rollout = typer.Typer(no_args_is_help=True, epilog=f"Example: modelyard rollout status --watch\n\n{EXIT_CODES}")
gating = typer.Typer(no_args_is_help=True, epilog=f"Example: modelyard gates explain 7\n\n{EXIT_CODES}")
piping = typer.Typer(no_args_is_help=True, epilog=f"Example: modelyard pipeline run --watch\n\n{EXIT_CODES}")


@app.callback()
def modelyard(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_say)
    ] = False,
) -> None:
    """One model, from data to live traffic, with the reason recorded at each gate."""


COMMANDS: tuple[tuple[Callable[..., None], str], ...] = (
    (starting.init, "modelyard init digits && cd digits && modelyard run"),
    (starting.validate, "modelyard validate --set train.epochs=3"),
    (running.run, "modelyard run --until gate --set train.optimizer.lr=1e-3"),
    (training.train, "modelyard train --on kubernetes --namespace vision --store s3://models/digits"),
    (running.compare, "modelyard compare 20260102-101500 20260102-113000"),
    (running.report, "modelyard report --to report.html"),
    (laptop.up, "modelyard up"),
    (laptop.down, "modelyard down"),
    (laptop.status, "modelyard status --watch"),
    (laptop.predict, "modelyard predict request.json"),
    (releasing.promote, "modelyard promote digits 7"),
    (releasing.export, "modelyard export --tracking-uri https://mlflow.example.com | kubectl apply -f -"),
    (caring.doctor, "modelyard doctor"),
    (caring.gc, "modelyard gc --keep 3 --dry-run"),
)
ROLLOUT: tuple[tuple[Callable[..., None], str], ...] = (
    (releasing.status, "modelyard rollout status --output json"),
    (reigning.history, "modelyard rollout history digits --tracking-uri https://mlflow.example.com"),
    (explaining.explain, "modelyard rollout explain --to analysis.svg"),
    (releasing.promote_now, "modelyard rollout promote"),
    (releasing.pause, "modelyard rollout pause"),
    (releasing.resume, "modelyard rollout resume"),
    (releasing.abort, "modelyard rollout abort"),
    (releasing.retry, "modelyard rollout retry"),
    (releasing.undo, "modelyard rollout undo"),
    (releasing.simulate, "modelyard rollout simulate --errors 0.01 --regression 0.02 --rps 50 --weight 5"),
)
GATES: tuple[tuple[Callable[..., None], str], ...] = (
    (gates.explain, "modelyard gates explain 7"),
    (gates.replay, "modelyard gates replay --rules stricter.yaml"),
)
PIPELINE: tuple[tuple[Callable[..., None], str], ...] = (
    (pipeline.compile_, "modelyard pipeline compile --to pipeline.yaml"),
    (pipeline.upload, "modelyard pipeline upload --endpoint https://kubeflow.example.com/pipeline"),
    (pipeline.run, "modelyard pipeline run --set train.epochs=20 --watch"),
    (pipeline.schedule, "modelyard pipeline schedule --cron '0 0 3 * * *'"),
    (pipeline.watch, "modelyard pipeline watch 5a7d3c1e-0b1f-4f57-9a43-1c7d8f0e2b11"),
)
NAMES = {"promote_now": "promote", "compile_": "compile"}

for _group, _commands in ((app, COMMANDS), (rollout, ROLLOUT), (gating, GATES), (piping, PIPELINE)):
    for _function, _example in _commands:
        _name = NAMES.get(_function.__name__, _function.__name__)
        _group.command(_name, epilog=f"Example: {_example}")(_function)
app.add_typer(gating, name="gates", help="Why a gate decided as it did, and what other rules would have said.")
app.add_typer(piping, name="pipeline", help="The project as a Kubeflow pipeline: compile, upload, run, repeat, follow.")
app.add_typer(rollout, name="rollout", help="Look at, steer, repeat and undo the way of a version into traffic.")
plugin = typer.Typer(
    name="kubectl modelyard",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Example: kubectl modelyard rollout abort digits -n vision",
    context_settings={"help_option_names": ["-h", "--help"]},
)
plugin.callback()(lambda: None)
plugin.add_typer(rollout, name="rollout", help="Look at, steer, repeat and undo rollouts of the current context.")


def kubectl() -> None:
    """Entry point of the plug-in: `kubectl modelyard rollout …` means the cluster of the current context."""
    in_cluster.set(True)
    main(plugin)


def main(app: typer.Typer = app) -> None:
    """Entry point: SIGTERM ends a command as Ctrl-C does, with 130 and everything stopped."""
    signal.signal(signal.SIGTERM, _interrupt)
    # MLflow would print addresses between the lines of JSON that somebody asked for.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
