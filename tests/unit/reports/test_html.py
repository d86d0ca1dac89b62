"""The page: whole, safe, and honest about what is missing."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from tests.unit.reports import sample

from modelyard.reports import canary, plots
from modelyard.reports.html import render
from modelyard.reports.markup import Markup
from modelyard.reports.view import STAGES, RunView, StageView
from modelyard.spec.codec import from_data, to_data
from modelyard.verdict import Outcome, Reason, Verdict

EVIL = '<script>alert(1)</script><img src=x onerror=alert(2)>" onload="alert(3)'
OPTIONAL = [field.name for field in dataclasses.fields(RunView) if field.default is None and field.name != "ended_at"]


class Tags(HTMLParser):
    """Every element with its attributes, and whether each is closed."""

    VOID = frozenset({"meta", "img", "br", "hr", "path", "use", "rect", "circle"})

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def whole() -> RunView:
    return sample.view()


@pytest.fixture(scope="module")
def page(whole: RunView) -> str:
    return render(whole)


def test_the_page_is_well_formed_and_has_all_ten_stages(page: str):
    tags = Tags(page)
    assert tags.open == []
    assert [a["id"] for tag, a in tags.seen if tag == "section"] == [*STAGES, "lineage"]


def test_the_page_loads_and_runs_nothing(page: str):
    for tag, attributes in Tags(page).seen:
        assert tag not in {"script", "link", "iframe", "object", "embed", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href"}:
                assert value.startswith(("data:image/png;base64,", "#")), value
    assert "url(http" not in page
    assert "@import" not in page
    assert re.search(r"Content-Security-Policy\" content=\"default-src &#x27;none&#x27;", page)


def test_references_within_the_page_lead_to_something(page: str):
    tags = Tags(page).seen
    ids = {a["id"] for _, a in tags if a.get("id")}
    wanted = {v[1:] for _, a in tags for n, v in a.items() if n in {"href", "xlink:href"} and v.startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", page))
    assert wanted <= ids


def test_the_same_run_gives_the_same_bytes(whole: RunView, page: str):
    assert render(from_data(RunView, to_data(whole))) == page


def test_the_verdict_stands_at_the_top_with_both_sides(page: str):
    words = " ".join(Tags(page[: page.index("<main")]).text)
    assert "Version 3 was rolled back" in words
    assert "of the canary's" in words
    assert "stable's" in words


def test_a_run_that_went_well_says_so():
    words = " ".join(Tags(render(sample.view(good=True))).text)
    assert "Version 3 is stable" in words
    assert "rolled back" not in words


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch):
    """Plots as empty elements: drawing takes most of the time."""
    for module in (plots, canary):
        monkeypatch.setattr(module, "svg", lambda *_, **__: Markup("<svg></svg>"))


@pytest.mark.parametrize("part", OPTIONAL)
@pytest.mark.usefixtures("undrawn")
def test_a_missing_part_leaves_its_section_out_and_breaks_nothing(whole: RunView, part: str):
    tags = Tags(render(dataclasses.replace(whole, **{part: None})))
    assert [a["id"] for tag, a in tags.seen if tag == "section"] == [*STAGES, "lineage"]


def test_a_run_of_which_nothing_is_known_says_why_for_each_stage():
    page = render(RunView(model="digits"))
    sections = re.findall(r"<section id=\"(\w+)\".*?</section>", page, re.DOTALL)
    assert sections == [*STAGES, "lineage"]
    assert page.count('class="note"') >= len(STAGES)
    for reason in ("No data was prepared.", "No model was trained.", "No gate was asked.", "No rollout was made."):
        assert reason in page


def test_a_gate_that_said_no_is_the_headline_and_later_stages_were_not_reached():
    said = Verdict(outcome=Outcome.FAILED, reason=Reason.WORSE, message="accuracy 0.91 against the champion's 0.97")
    stages = (StageView(stage="prepare", seconds=1), StageView(stage="gate", seconds=0.1, verdict=said))
    page = render(RunView(model="digits", state="Refused", stages=stages))
    words = Tags(page).text
    assert "The gate stage said no" in words
    assert said.message in words
    assert words.count("not reached") == 8


def test_nothing_that_a_user_can_name_becomes_markup(whole: RunView):
    """A class, a file or an error message may hold anything; a page of ours must not run it."""
    evaluation = sample.evaluation(0.9, seed=1, model="evil", classes=(EVIL, *sample.CLASSES[1:]))
    report = sample.data_report()
    report["balance"] = {"train": {EVIL: 10, "ok": 5}, "test": {EVIL: 3}}
    report["examples"][0] |= {"label": EVIL, "id": EVIL, "png": '"><script>alert(4)</script>'}
    broken = dataclasses.replace(whole.compression.variants[-1], name=EVIL, failure=EVIL)
    slow = dataclasses.replace(whole.compression.variants[2], name=EVIL)
    attempt = dataclasses.replace(
        whole.rollout,
        spec=dataclasses.replace(whole.rollout.spec, version=EVIL),
        status=dataclasses.replace(
            whole.rollout.status,
            verdict=Verdict(outcome=Outcome.FAILED, reason=Reason.LATENCY, message=EVIL),
            timeline=({"at": sample.START, "event": EVIL, "message": EVIL},),
        ),
    )
    evil = dataclasses.replace(
        whole,
        model=EVIL,
        run=EVIL,
        alias=EVIL,
        champion=EVIL,
        message=EVIL,
        data_report=report,
        evaluation=evaluation,
        compression=dataclasses.replace(
            whole.compression, variants=(*whole.compression.variants, broken, slow), reason=EVIL, node_type=EVIL
        ),
        version=dataclasses.replace(whole.version, tags={EVIL: EVIL}),
        rollout=attempt,
        lineage={EVIL: EVIL},
        stages=(*(dataclasses.replace(stage, message=EVIL) for stage in whole.stages[:3]),),
    )
    tags = Tags(render(evil))
    assert tags.open == []
    assert EVIL in tags.text  # as text, and only so
    for tag, attributes in tags.seen:
        assert tag != "script"
        assert "onerror" not in attributes
        assert "onload" not in attributes
        if tag == "img":
            assert attributes["src"].startswith("data:image/png;base64,")


def test_signs_of_mathematics_in_a_name_are_drawn_as_they_are(whole: RunView):
    evaluation = sample.evaluation(0.9, seed=1, model="tex", classes=("$\\frac$", *sample.CLASSES[1:]))
    assert "$\\frac$" in Tags(render(dataclasses.replace(whole, evaluation=evaluation))).text


def test_regression_and_text_models_show_no_confusion(whole: RunView):
    bare = dataclasses.replace(whole.evaluation, kind="number", classes=(), confusion=(), calibration=())
    words = Tags(render(dataclasses.replace(whole, evaluation=bare))).text
    assert "These labels are no classes: no confusion to show." in words


def test_numbers_that_are_no_numbers_are_shown_and_break_nothing(whole: RunView):
    nan = float("nan")
    metric = dataclasses.replace(next(iter(whole.evaluation.metrics.values())), value=nan, low=nan, high=nan)
    curve = dataclasses.replace(whole.trained.epochs[-1], validation_loss=None, validation_metrics={}, train_loss=nan)
    rule = dataclasses.replace(whole.gates.rules[0], candidate=metric)
    view = dataclasses.replace(
        whole,
        evaluation=dataclasses.replace(whole.evaluation, metrics={"accuracy": metric}),
        trained=dataclasses.replace(whole.trained, epochs=(curve,), best_epoch=curve.epoch),
        gates=dataclasses.replace(whole.gates, rules=(rule,)),
    )
    assert "nan" in " ".join(Tags(render(view)).text)


def test_an_analysis_of_another_time_that_cannot_be_read_leaves_the_rest(whole: RunView):
    status = dataclasses.replace(whole.rollout.status, analysis={"of": "another time"})
    page = render(dataclasses.replace(whole, rollout=dataclasses.replace(whole.rollout, status=status)))
    assert "Share of the traffic" in page
    assert "There was no canary to analyse." in page
