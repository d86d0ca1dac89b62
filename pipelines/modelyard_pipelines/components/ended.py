"""Where a run ends before its last stage: a step of its own for each reason, so that the graph says which."""

from kfp import dsl


def skipped(model: str, after: str, judged: dsl.Input[dsl.Artifact], words: dsl.Output[dsl.Markdown]) -> None:
    """A gate said no: everything after it is skipped."""
    from modelyard_pipelines.ending import ended

    ended(model=model, after=after, judged=judged, words=words)


def inconclusive(model: str, after: str, judged: dsl.Input[dsl.Artifact], words: dsl.Output[dsl.Markdown]) -> None:
    """The examples do not decide, which is no yes: everything after is skipped."""
    from modelyard_pipelines.ending import ended

    ended(model=model, after=after, judged=judged, words=words)


def unchanged(model: str, source: str, words: dsl.Output[dsl.Markdown]) -> None:
    """A version was made of the same data, code and settings: there is nothing to train."""
    from pathlib import Path

    text = f"# {model}: nothing new\n\nA version was made of the data `{source}`, this code and these settings already."
    Path(words.path).write_text(text + "\n", "utf-8")


def waiting(model: str, alias: str, version: str, words: dsl.Output[dsl.Markdown]) -> None:
    """The version is registered and nobody moved the alias: there is no rollout to await."""
    from pathlib import Path

    text = f"# {model}: version {version} waits\n\n`modelyard promote {model} {version}`, or move {alias} in MLflow."
    Path(words.path).write_text(text + "\n", "utf-8")
