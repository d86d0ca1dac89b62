"""The report as Markdown, for places that show no HTML: Kubeflow's artifacts, a merge request, a terminal."""

from collections.abc import Sequence

from modelyard.reports import tables
from modelyard.reports.sections import SECTIONS, moment
from modelyard.reports.summary import facts, of_stage, summary
from modelyard.reports.tables import Table
from modelyard.reports.view import RunView

_SIGNS = str.maketrans({sign: f"\\{sign}" for sign in r"\`*_{}[]<>#|~"})


def render_markdown(view: RunView, *, only: Sequence[str] = (), of: str = "") -> str:
    """Render a run as Markdown, without pictures. Whatever a name or a message holds is text, never markup.

    Args:
        view: whatever is known of the run.
        only: the stages that are shown; all without.
        of: the stage whose page this is: then its own verdict is the headline.
    """
    said = of_stage(view, of, SECTIONS[of][0]) if of else summary(view)
    lines = [f"# {_plain(view.model)}: {_plain(said.headline)}", ""]
    if said.reason:
        lines += [_plain(said.reason), ""]
    when = ", ".join(filter(None, (view.run and f"run {view.run}", moment(view.started_at) if view.started_at else "")))
    lines += [_plain(when), ""] if when else []
    lines += [f"- {_plain(fact.name)}: **{_plain(fact.value)}** {_plain(fact.about)}".rstrip() for fact in facts(view)]
    lines += [""] if facts(view) else []
    for name, (title, _) in SECTIONS.items():
        if only and name not in only:
            continue
        stage = view.stage(name)
        lines += [f"## {title}", ""] if not of else []
        lines += [_plain(stage.message), ""] if stage and stage.message and not of else []
        found = _tables(view, name)
        for one in found:
            lines += [*_table(one), ""] if one.rows else []
        if not found and not (stage and stage.message):
            lines += ["Not reached." if stage is None else "Nothing to show.", ""]
    known = tables.lineage(view)
    if known.rows and not only:
        lines += ["## Digests and lineage", "", *_table(known)]
    return "\n".join(lines).rstrip() + "\n"


def _tables(view: RunView, name: str) -> list[Table]:
    if name == "prepare" and view.data:
        return [tables.splits(view.data), tables.cleaning(view.data)]
    if name == "train" and view.trained:
        return [tables.training(view.trained)]
    if name == "evaluate" and view.evaluation:
        return [tables.metrics(view), tables.mistakes(view.evaluation)]
    if name == "gate" and view.gates:
        return [tables.gates(view.gates)]
    if name == "compress" and view.compression:
        return [tables.variants(view.compression)]
    return []


def _table(data: Table) -> list[str]:
    rules = ["---:" if at in data.numbers else "---" for at in range(len(data.headers))]
    rows = [data.headers, *data.rows]
    body = ["| " + " | ".join(_plain(cell) for cell in row) + " |" for row in rows]
    return [body[0], "| " + " | ".join(rules) + " |", *body[1:]]


def _plain(words: str) -> str:
    return " ".join(words.split()).translate(_SIGNS)
