"""What a release is made of: golden files, Kubernetes' schemas, and what must hold in each."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python import lint
from tests.unit.chart.chart import CHART, LOADER, ROOT, VALUES, objects, rendered

GOLDEN = ROOT / "tests" / "golden" / "chart"
SUPPORTED = ("1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36")
CRD = "CustomResourceDefinition"
BASE = "# Made from charts/modelyard: MODELYARD_GOLDEN=write pytest tests/unit/chart\n"
OTHERS = ("monitoring.coreos.com/v1",)
"""Kinds that Kubernetes' own schemas do not have."""


def pods(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for each in objects(values):
        if each["kind"] == "Deployment":
            yield each["spec"]["template"]["spec"]
        elif each["kind"] == "Pod":
            yield each["spec"]


def held(file: Path, made: list[dict[str, Any]], *, head: str = "") -> None:
    """Compare with the golden file, or write it."""
    if os.environ.get("MODELYARD_GOLDEN") == "write":
        file.write_text(head + yaml.safe_dump_all(made, sort_keys=False, width=120))
    shipped = [each for each in yaml.load_all(file.read_text(), Loader=LOADER) if each]
    assert made == shipped, "run with MODELYARD_GOLDEN=write, and look at the difference"


@pytest.mark.parametrize("name", VALUES)
def test_a_release_is_rendered_as_its_golden_file_says(name: str) -> None:
    held(GOLDEN / f"{name}.yaml", [each for each in objects(VALUES[name]) if each["kind"] != CRD])


def test_the_base_for_kustomize_is_the_plain_release_without_its_test() -> None:
    made = [each for each in objects({}) if "helm.sh/hook" not in each["metadata"].get("annotations", {})]
    held(ROOT / "charts" / "kustomize" / "modelyard.yaml", made, head=BASE)


def shape(value: Any) -> Any:
    """Which fields there are, whatever they say."""
    if isinstance(value, dict):
        return tuple((name, shape(below)) for name, below in sorted(value.items()))
    return frozenset(map(shape, value)) if isinstance(value, list) else type(value)


@pytest.fixture(scope="module")
def shapes() -> list[dict[str, Any]]:
    """One object of each kind and shape that any release has, in the same words once."""
    every = (each for values in VALUES.values() for each in objects(values) if each["apiVersion"] not in OTHERS)
    return list({(each["kind"], shape({**each, "metadata": {}})): each for each in every}.values())


@pytest.mark.parametrize("version", SUPPORTED)
def test_every_object_fits_the_schemas_of_each_kubernetes_that_is_supported(
    shapes: list[dict[str, Any]], version: str
) -> None:
    assert len(shapes) > 15
    for each in shapes:
        kubernetes_validate.validate(each, version, strict=True)


def test_helm_finds_nothing_wrong() -> None:
    for values in VALUES.values():
        found = lint(str(CHART), dict(values), strict=True, kube_version="v1.30.0")
        assert not found["errors"]
        assert [each["error"] for each in found["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("name", VALUES)
def test_every_container_is_restricted_and_every_image_has_a_tag_or_digest(name: str) -> None:
    found = list(pods(VALUES[name]))
    assert found
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert ":" in container["image"].rpartition("/")[2]
            assert container["resources"]["requests"]


def test_only_the_operator_has_a_token() -> None:
    with_token = [pod["containers"][0]["name"] for pod in pods(VALUES["trying"]) if pod["automountServiceAccountToken"]]
    assert with_token == ["operator"]


def test_a_namespaced_release_has_nothing_that_is_the_clusters() -> None:
    for name in ("namespaced", "air-gapped"):
        kinds = {each["kind"] for each in objects(VALUES[name], namespace="team")}
        assert not {kind for kind in kinds if kind.startswith("Cluster")}
    assert CRD not in {each["kind"] for each in objects(VALUES["namespaced"])}


def test_definitions_are_upgraded_with_the_release_and_stay_when_it_goes() -> None:
    found = [each for each in objects({}) if each["kind"] == CRD]
    assert len(found) == 3
    assert {each["metadata"]["annotations"]["helm.sh/resource-policy"] for each in found} == {"keep"}


def test_two_releases_of_their_own_namespaces_share_no_name() -> None:
    names = [
        {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
         for each in objects(VALUES["namespaced"], name=name, namespace=namespace)}
        for name, namespace in (("modelyard", "one"), ("modelyard", "two"))
    ]  # fmt: skip
    assert not names[0] & names[1]


def test_two_releases_for_the_whole_cluster_meet_in_a_name_so_that_helm_refuses_the_second() -> None:
    names = [
        {(each["kind"], each["metadata"]["name"]) for each in objects({}, name=name, namespace=name)
         if each["kind"] == "ClusterRole"}
        for name in ("one", "two")
    ]  # fmt: skip
    assert names[0] & names[1] == {("ClusterRole", "modelyard-operator")}


def test_nothing_in_a_release_changes_from_one_rendering_to_the_next() -> None:
    for values in VALUES.values():
        assert rendered(values) == rendered(values)


def test_every_alert_has_a_part_in_the_runbook() -> None:
    (rules,) = (each for each in objects(VALUES["observed"]) if each["kind"] == "PrometheusRule")
    runbook = (ROOT / "docs" / "operate.md").read_text()
    for group in rules["spec"]["groups"]:
        for rule in group["rules"]:
            anchor = rule["annotations"]["runbook_url"].rpartition("#")[2]
            assert f"### {anchor}" in runbook.lower(), f"docs/operate.md says nothing about {rule['alert']}"
