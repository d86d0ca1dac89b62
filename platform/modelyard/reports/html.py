"""The report as one HTML file: no script, no network, light and dark, with every picture inside."""

from collections.abc import Sequence
from pathlib import Path

from modelyard.figures import duration
from modelyard.reports import tables
from modelyard.reports.markup import Markup, el
from modelyard.reports.sections import SECTIONS, moment, note, table
from modelyard.reports.summary import facts, of_stage, stage_tone, summary
from modelyard.reports.view import RunView

_STYLE = Path(__file__).with_name("style.css")


def render(view: RunView, *, only: Sequence[str] = (), of: str = "") -> str:
    """Render a run as one self-contained page.

    Args:
        view: whatever is known of the run.
        only: the stages whose sections are shown; all without.
        of: the stage whose page this is: then its own verdict is the headline.

    Returns:
        HTML; the same view gives the same bytes.
    """
    title = f"{view.model}{f' · version {view.version.version}' if view.version else ''}"
    style = Markup(_STYLE.read_text("utf-8"))
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        # nothing may be loaded or run, whatever a name or a message holds
        el(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        ),
        el("title", title),
        el("style", style),
    )
    shown = [(at, name) for at, name in enumerate(SECTIONS, 1) if not only or name in only]
    body = el(
        "body",
        _header(view, of),
        el("main", *(_section(view, at, name) for at, name in shown), _digests(view) if not only else None),
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def _header(view: RunView, of: str) -> Markup:
    said = of_stage(view, of, SECTIONS[of][0]) if of else summary(view)
    when = " · ".join(filter(None, (view.run and f"run {view.run}", view.started_at and moment(view.started_at))))  # type: ignore[arg-type]
    steps = [
        el(
            "li",
            el("a", el("i"), el("b", title.partition(" and ")[0]), _seconds(view, name), href=f"#{name}"),
            class_=stage_tone(view, name),
        )
        for name, (title, _) in SECTIONS.items()
    ]
    numbers = [
        el("div", el("dt", fact.name), el("dd", fact.value), el("dd", fact.about, class_="about"))
        for fact in facts(view)
    ]
    return el(
        "header",
        el("p", view.model, el("span", when), class_="eyebrow"),
        el("h1", said.headline, class_=said.tone),
        el("p", said.reason, class_="lead") if said.reason else None,
        el("dl", *numbers, class_="facts") if numbers else None,
        el("nav", el("ol", *steps), aria_label="the ten stages"),
    )


def _seconds(view: RunView, name: str) -> Markup:
    stage = view.stage(name)
    if stage is None:
        return el("span", "not reached" if view.stages else "")
    return el("span", "as before" if stage.cached else duration(stage.seconds))


def _section(view: RunView, at: int, name: str) -> Markup:
    title, section = SECTIONS[name]
    content = section(view)
    stage = view.stage(name)
    # where a section has nothing to show, what the stage told on its way says more than that it has nothing
    if not isinstance(content, Markup):
        content = el("p", stage.message, class_="said") if stage and stage.message else note(content)
    head = el(
        "h2",
        el("span", str(at), class_=f"place {stage_tone(view, name)}"),
        title,
        _seconds(view, name) if stage else None,
    )
    return el("section", head, content, id=name)


def _digests(view: RunView) -> Markup:
    known = tables.lineage(view)
    content = table(known) if known.rows else note("No digest is known yet.")
    return el("section", el("h2", "Digests and lineage"), content, id="lineage", class_="digests")
