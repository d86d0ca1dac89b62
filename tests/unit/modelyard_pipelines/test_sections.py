"""A project's file as parameters of a run, and back: nothing is lost on a way on which every number is a double."""

import pytest
from tests.unit.modelyard_pipelines.projects import project

from modelyard.errors import BadInput
from modelyard_pipelines.sections import inputs_digest, parameters, project_of, whole

CODE = "sha256:" + "1" * 64


def doubled(value):
    if isinstance(value, dict):
        return {name: doubled(below) for name, below in value.items()}
    if isinstance(value, list):
        return [doubled(below) for below in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def test_a_project_comes_back_as_it_was_sent():
    sent = project()
    given = {name: value for name, value in parameters(sent, code=CODE).items() if name != "code"}
    back = project_of(**doubled(given))
    for section in ("data", "train", "metrics", "gates", "compress", "promote", "alias"):
        assert getattr(back, section) == getattr(sent, section), section
    assert back.deployment.runtime == sent.deployment.runtime
    assert isinstance(back.train.recipe.with_["width"], int)


def test_each_section_is_a_parameter_of_its_own_so_that_changed_gates_keep_the_cache_of_training():
    one, other = parameters(project(), code=CODE), parameters(project({"gates.0.atLeast": "0.7"}), code=CODE)
    assert {name for name in one if one[name] != other[name]} == {"gates"}


def test_a_rollout_that_changed_changes_no_parameter():
    changed = project({"deployment.strategy.canary.steps": "[{setWeight: 1}, {analysis: {}}]"})
    assert parameters(changed, code=CODE) == parameters(project(), code=CODE)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("train.recipe.with.dropout", "1.0", "train.recipe.with.dropout"),
        ("train.recipe.with.seed", str(2**53 + 1), "train.recipe.with.seed"),
    ],
    ids=["a whole number with a point", "a number beyond 2^53"],
)
def test_what_a_double_cannot_carry_is_refused(field, value, told):
    with pytest.raises(BadInput, match=told):
        parameters(project({field: value}), code=CODE)


@pytest.mark.parametrize("source", ["rows.csv", "~/rows.csv", "../data"])
def test_a_path_of_this_machine_is_refused_since_no_pod_sees_it(source):
    with pytest.raises(BadInput, match="no pod sees"):
        parameters(project({"data.source": source}), code=CODE)


def test_truth_stays_truth():
    assert whole({"a": True, "b": [2.0, 2.5, "2.0"]}) == {"a": True, "b": [2, 2.5, "2.0"]}


def test_what_a_run_is_made_of_is_one_digest():
    made = inputs_digest(project(), code=CODE, source="sha256:a")
    assert made == inputs_digest(project({"alias": "live"}), code=CODE, source="sha256:a")
    others = [
        inputs_digest(project(), code=CODE, source="sha256:b"),
        inputs_digest(project(), code="sha256:2", source="sha256:a"),
        inputs_digest(project({"train.epochs": "4"}), code=CODE, source="sha256:a"),
    ]
    assert len({made, *others}) == 4
