"""Verdicts and plots of the report as files of their own, for where files are looked at: MLflow's artifacts.

What a run knows when its version is registered, and the canary's plot when its attempt has ended.
"""

from collections.abc import Mapping

from modelyard.reports import canary, plots
from modelyard.reports.html import render
from modelyard.reports.view import RunView
from modelyard.spec.rollout import ModelRollout

VERDICTS = "gates.html"
CANARY = "canary.svg"


def pictures(view: RunView) -> Mapping[str, str]:
    """File name → text: the gates' verdicts as a page, and of what there is plots as SVG that stand alone."""
    made = {VERDICTS: render(view, only=("gate",))}
    evaluated = view.served or view.evaluation
    if evaluated is not None and evaluated.confusion:
        made["confusion.svg"] = plots.confusion(evaluated)
    if evaluated is not None and evaluated.calibration:
        made["calibration.svg"] = plots.calibration(evaluated.calibration)
    pareto = plots.pareto(view.compression) if view.compression is not None else None
    if pareto is not None:
        made["pareto.svg"] = pareto
    return made


def canary_pictures(attempt: ModelRollout) -> Mapping[str, str]:
    """The weights and the evidence over time beside the bounds that decided; nothing where nothing was recorded."""
    drawn = canary.weights_and_evidence(attempt)
    return {} if drawn is None else {CANARY: drawn}
