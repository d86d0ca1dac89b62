"""The ten sections of a report, one for each stage: what came of it, or one line saying why there is nothing."""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from modelyard.evaluation.gate import GateReport, RuleResult
from modelyard.evaluation.report import Metric
from modelyard.evaluation.rules import WITHIN, limit_of
from modelyard.figures import number, signed
from modelyard.reports import canary, plots, tables
from modelyard.reports.canvas import BAD, GOOD, WARN
from modelyard.reports.markup import Markup, el, join
from modelyard.reports.summary import tone
from modelyard.reports.view import RunView
from modelyard.rollout.analysis import progress
from modelyard.rollout.explain import evidence_of
from modelyard.spec.gates import comparisons
from modelyard.verdict import Reason, Verdict

_COLOURS = {"good": GOOD, "bad": BAD, "warn": WARN, "muted": WARN}


def prepare(view: RunView) -> Markup | str:
    """The data report."""
    if view.data is None:
        return "No data was prepared."
    report = view.data_report or {}
    spread = report.get("balance") or {}
    if spread:
        ticks = join(_key("validation", "accent"), " and ", _key("test", "second"))
        balance = _figure(
            plots.balance(spread), join("Share of each class: bars ", _key("train", "muted"), ", ticks ", ticks)
        )
    else:
        balance = note("The data report counts no classes.")
    return join(
        el("div", table(tables.splits(view.data)), table(tables.cleaning(view.data)), class_="pair"),
        balance,
        _examples(report.get("examples") or ()),
    )


def _examples(examples: object) -> Markup | None:
    shown = (
        [one for one in examples if isinstance(one, Mapping) and one.get("png")]
        if isinstance(examples, (list, tuple))
        else []
    )
    if not shown:
        return None
    pictures = [
        el("figure", el("img", src=f"data:image/png;base64,{one['png']}", alt=f"example {one.get('id', '')}"),
           el("figcaption", str(one.get("label", ""))))
        for one in shown
    ]  # fmt: skip
    return el("div", *pictures, class_="examples")


def train(view: RunView) -> Markup | str:
    """Curves, and what was trained."""
    trained = view.trained
    if trained is None:
        return "No model was trained."
    processes, threads = _many(trained.world_size, "process"), _many(trained.threads, "thread")
    facts = [
        f"{_many(len(trained.epochs), 'epoch')}, {_many(trained.steps, 'update')} by {processes} with {threads} each."
    ]
    facts.append(f"{trained.examples_per_second:,.0f} examples a second.")
    if trained.epochs and trained.best_epoch != trained.epochs[-1].epoch:
        facts.append(f"The weights of epoch {trained.best_epoch} were kept.")
    if trained.initialized_from:
        facts.append(f"It began from {trained.initialized_from.source}.")
    if trained.restarts:
        facts.append(f"It went on from a checkpoint after {_many(trained.restarts, 'kill')}.")
    drawn = (
        _figure(plots.curves(trained), "The dashed line is the epoch whose weights were kept.")
        if trained.epochs
        else None
    )
    return join(el("p", " ".join(facts)), drawn)


def evaluate(view: RunView) -> Markup | str:
    """Metrics, confusion, calibration."""
    report = view.evaluation
    if report is None:
        return "The model was not evaluated."
    drawn = []
    if report.confusion:
        drawn.append(_figure(plots.confusion(report), "Rows are what it was, columns what was answered."))
    if any(one.count for one in report.calibration):
        drawn.append(
            _figure(plots.calibration(report.calibration), "On the diagonal, a score is what it says. 95 % intervals.")
        )
    mistaken = tables.mistakes(report)
    shown = tables.leading(view, report) or tuple(report.metrics)
    rest = tuple(name for name in report.metrics if name not in shown)
    more = (
        el("details", el("summary", f"{_many(len(rest), 'further metric')}"), table(tables.metrics(view, rest)))
        if rest
        else None
    )
    return join(
        table(tables.metrics(view, shown)),
        more,
        el("div", *drawn, class_="pair") if drawn else note("These labels are no classes: no confusion to show."),
        join(el("h3", "Mistaken most often"), table(mistaken, narrow=True)) if mistaken.rows else None,
        *(note(one) for one in report.notes),
    )


def gate(view: RunView) -> Markup | str:
    """Each rule with both sides."""
    return "No gate was asked." if view.gates is None else _gates(view.gates)


def _gates(report: GateReport) -> Markup:
    passed = sum(one.verdict.lets_through for one in report.rules)
    told = f"{passed} of {_many(len(report.rules), 'rule')} passed." if report.rules else report.verdict.message
    return join(el("p", _verdict(report.verdict), " ", told), *(_rule(one) for one in report.rules))


def _rule(one: RuleResult) -> Markup:
    mood = tone(one.verdict)
    sides = [_side("candidate", one.candidate)]
    gap = one.rule.max_gap is not None or one.rule.max_overfit is not None
    if one.other:
        sides.append(_side(one.against, one.other))
    if one.difference:
        sides.append(_side("gap" if gap else "better by", one.difference, difference=True))
    obvious = one.verdict.lets_through and one.verdict.reason != Reason.NO_CHAMPION
    return el(
        "div",
        el("div", el("strong", tables.rule_name(one)), _verdict(one.verdict), class_="rule-head"),
        el("div", el("dl", *sides), _strip(one, mood), class_="rule-body"),
        None if obvious else el("p", one.verdict.message, class_="quiet"),
        class_=f"rule {mood}",
    )


def _side(name: str, one: Metric, *, difference: bool = False) -> Markup:
    return join(el("dt", name), el("dd", tables.with_interval(one, difference=difference)))


def _strip(one: RuleResult, mood: str) -> Markup | None:
    rule = one.rule
    if rule.no_regression_on is not None:
        return None
    limit, above = limit_of(rule)
    shown: Metric | None = one.candidate if comparisons(rule)[0] in WITHIN else one.difference
    if shown is None or not all(map(math.isfinite, (shown.low, shown.value, shown.high))):
        return None
    drawn = plots.strip(
        low=shown.low, value=shown.value, high=shown.high, limit=limit, above_is_good=above, colour=_COLOURS[mood]
    )
    return el("div", drawn, el("small", f"limit {number(limit)}"), class_="strip")


def compress(view: RunView) -> Markup | str:
    """The variants, and the gates once more on the chosen one."""
    report = view.compression
    if report is None:
        return "No variant was made."
    drawn = plots.pareto(report)
    told = (
        f"Timed on {report.node_type} with {_many(report.threads, 'thread')}, each variant in a process of its own, in "
        f"turns with {report.reference}. Drops are measured on {_many(report.examples, 'validation example')}; a line "
        f"ends at the bound that holds with {report.confidence:.0%}. Left and below is better."
    )
    failed = [el("li", el("strong", one.name), f" {one.failure}") for one in report.variants if one.failure]
    again = None
    if view.served_gates is not None:
        again = join(el("h3", "What serves was gated once more"), _gates(view.served_gates))
    return join(
        el("p", "Chosen: ", el("strong", report.chosen), ". ", report.reason.partition(": ")[2] or report.reason, "."),
        _figure(drawn, told) if drawn else note("No two variants to compare."),
        table(tables.variants(report)),
        join(el("h3", "Could not be made or measured"), el("ul", *failed)) if failed else None,
        again,
    )


def package(view: RunView) -> Markup | str:
    """The archive and the golden requests."""
    made = view.package
    if made is None:
        return "No archive was made."
    stage = view.stage("package")
    return join(
        el("p", f"{made.name}.mar, {tables.size(made.bytes)}, holds the variant ", el("strong", made.variant), "."),
        el("p", _verdict(stage.verdict), " ", stage.verdict.message) if stage and stage.verdict else None,
    )


def register(view: RunView) -> Markup | str:
    """The version."""
    if view.version is None:
        return "Nothing was registered."
    tags = tuple((name, value) for name, value in sorted(view.version.tags.items()))
    told = el("p", f"Version {view.version.version} of {view.version.model}.")
    return join(told, table(tables.Table(("tag", "value"), tags), narrow=True) if tags else None)


def promote(view: RunView) -> Markup | str:
    """The alias."""
    if view.version is None:
        return "There is no version to promote."
    if view.champion is None:
        return el("p", f"The alias {view.alias or 'champion'} names no version.")
    own = " (this one)" if view.champion == view.version.version else ""
    return el("p", f"The alias {view.alias} names version {view.champion}{own} now.")


def rollout(view: RunView) -> Markup | str:
    """The canary over time."""
    attempt = view.rollout
    if attempt is None:
        return "No rollout was made."
    evidence = evidence_of(attempt)
    previous = attempt.spec.previous.get("version")
    against = f" beside version {previous}" if previous else ", the first of its model"
    drawn = canary.weights_and_evidence(attempt)
    caption = (
        "Top: what the router confirmed. Left: both arms. Right: the evidence, which may be looked at at any time; "
        "where red crosses its bound the version is aborted, where every green one does, it passes."
    )
    last = (
        el("ul", *(el("li", line) for line in progress(evidence, attempt.spec.serving.analysis))) if evidence else None
    )
    return join(
        el("p", f"Attempt {attempt.metadata.name}: version {attempt.spec.version}{against}."),
        _figure(drawn, caption) if drawn else note("No weight and no evidence was recorded."),
        last if evidence and evidence.history else note("There was no canary to analyse."),
    )


def settle(view: RunView) -> Markup | str:
    """How the attempt ended, and its timeline."""
    attempt = view.rollout
    if attempt is None:
        return "No rollout was made."
    status = attempt.status
    verdict = (
        el("p", _verdict(status.verdict), " ", status.verdict.message) if status.verdict else note("It has not ended.")
    )
    rows = tuple(
        (
            f"{signed(float(event.get('at', 0)) - status.started_at, 1)} s",
            str(event.get("event", "")),
            str(event.get("message", "")),
        )
        for event in status.timeline
    )
    return join(verdict, table(tables.Table(("when", "event", "what"), rows, frozenset({0}))) if rows else None)


SECTIONS: Mapping[str, tuple[str, Callable[[RunView], Markup | str]]] = {
    "prepare": ("Prepare", prepare),
    "train": ("Train", train),
    "evaluate": ("Evaluate", evaluate),
    "gate": ("Gate", gate),
    "compress": ("Compress", compress),
    "package": ("Package and try", package),
    "register": ("Register", register),
    "promote": ("Promote", promote),
    "rollout": ("Roll out", rollout),
    "settle": ("Settle", settle),
}
"""Stage → its title and its section; a section that is plain text says why there is nothing."""


def table(data: tables.Table, *, narrow: bool = False) -> Markup:
    """A table; wide ones scroll by themselves."""

    def cells(tag: str, row: tuple[str, ...]) -> Markup:
        return join(*(el(tag, cell, class_="number" if at in data.numbers else None) for at, cell in enumerate(row)))

    body = [
        el("tr", cells("td", row), class_="marked" if at in data.marked else None) for at, row in enumerate(data.rows)
    ]
    return el(
        "div",
        el("table", el("thead", el("tr", cells("th", data.headers))), el("tbody", *body)),
        class_="scroll narrow" if narrow else "scroll",
    )


def note(words: str) -> Markup:
    """A line that says why there is nothing."""
    return el("p", words, class_="note")


def moment(seconds: float) -> str:
    """A time in UTC, to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%-d %B %Y, %H:%M UTC")


def _many(count: int, what: str) -> str:
    plural = "" if count == 1 else "es" if what.endswith("s") else "s"
    return f"{count:,} {what}{plural}"


def _figure(drawn: Markup, caption: str | Markup) -> Markup:
    return el("figure", drawn, el("figcaption", caption))


def _key(word: str, colour: str) -> Markup:
    return el("span", word, style=f"color:var(--{colour});font-weight:600")


def _verdict(verdict: Verdict | None) -> Markup | None:
    return None if verdict is None else el("span", str(verdict.outcome), class_=f"verdict {tone(verdict)}")
