"""The last step, also of a run that failed or was cancelled."""

from kfp import dsl


def summarize(
    model: str,
    notify: str,
    words: dsl.Output[dsl.Markdown],
    report: dsl.Output[dsl.HTML],
    status: dsl.PipelineTaskFinalStatus,
) -> None:
    """Write what came of the run, as MLflow knows it by the run's id; close what was left open; tell whoever asked."""
    from modelyard_pipelines.ending import summarized

    error = status.error_message or ""
    summarized(model=model, state=status.state, error=error, notify=notify, words=words, report=report)
