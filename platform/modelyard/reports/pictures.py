"""Verdicts and plots of the report as files of their own, for where files are looked at: MLflow's artifacts.

Only what a run knows when its version is registered; the canary's plot comes later, in `modelyard report` and
`modelyard rollout explain`.
"""

from collections.abc import Mapping

from modelyard.reports import plots
from modelyard.reports.html import render
from modelyard.reports.view import RunView

VERDICTS = "gates.html"


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
