"""The definitions of our kinds, held against a real API server: what it takes, what it refuses, what it says then."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.fixtures import Cluster

from modelyard.errors import Forbidden, Refused
from modelyard.kube.client import KubeClient
from modelyard.kube.port import MODEL_DEPLOYMENT, MODEL_REGISTRY, MODEL_ROLLOUT
from modelyard.spec.deployment import (
    AnalysisGate,
    AnalysisStep,
    Autoscaling,
    CanaryStatus,
    Condition,
    DeploymentSpec,
    DeploymentStatus,
    ModelDeployment,
    ModelRef,
    ParentRef,
    Pause,
    PauseStep,
    PodTemplate,
    PrometheusMetric,
    ScalingMetric,
    SetWeight,
    StableStatus,
    Strategy,
    Traffic,
)
from modelyard.spec.deployment import Canary as Steps
from modelyard.spec.metadata import Metadata
from modelyard.spec.objects import from_object, to_object
from modelyard.spec.parse import parse_deployment
from modelyard.spec.registry import MLflow, ModelRegistry, ModelRegistrySpec
from modelyard.spec.rollout import ModelRollout, RolloutSpec
from modelyard.units import Duration, Percentage, Quantity

pytestmark = pytest.mark.process

MODEL = {"name": "digits", "alias": "champion"}
PROMETHEUS = {"serverAddress": "http://prometheus", "query": "up", "threshold": "5"}
NOTHING = {**PROMETHEUS, "threshold": "0"}
DIGEST = "sha256:" + "a" * 64

Refusal = tuple[Mapping[str, Any], str]


def steps(*given: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"strategy": {"canary": {"steps": list(given)}}}


def metrics(*given: tuple[str, str, str]) -> Mapping[str, Any]:
    named = [{"name": name, "margin": {"type": kind, "value": value}} for name, kind, value in given]
    return {"analysis": {"metrics": named}}


def asked(*, name: str = "refunds", margin: str = "Absolute", **query: Any) -> dict[str, dict[str, Any]]:
    given = {"failures": 'refunds_total{arm="$arm"}', "total": 'orders_total{arm="$arm"}', **query}
    told = {field: value for field, value in given.items() if value is not None}
    return {"analysis": {"metrics": [{"name": name, "margin": {"type": margin, "value": "5%"}, "query": told}]}}


def pod(**spec: Any) -> Mapping[str, Any]:
    return {"podTemplate": {"spec": spec}}


REFUSED: Mapping[str, Refusal] = {
    "neither alias nor version": ({"model": {"name": "digits"}}, "give exactly one of alias and version"),
    "alias and version": ({"model": {**MODEL, "version": "7"}}, "give exactly one of alias and version"),
    "an alias that MLflow reserves": ({"model": {"name": "digits", "alias": "Latest"}}, "choose another, like"),
    "a version that is no number": ({"model": {"name": "digits", "version": "seven"}}, "spec.model.version"),
    "a model that cannot be a URL": ({"model": {"name": "a/b", "alias": "champion"}}, "spec.model.name"),
    "replicas and autoscaling": ({"replicas": 2, "autoscaling": {"maxReplicas": 3}}, "leave one of them out"),
    "no replicas": ({"replicas": 0}, "should be greater than or equal to 1"),
    "min above max": ({"autoscaling": {"minReplicas": 5, "maxReplicas": 3}}, "must be at least minReplicas"),
    "scaling to zero": ({"autoscaling": {"minReplicas": 0, "maxReplicas": 3}}, "greater than or equal to 1"),
    "a scaling metric of another type": (
        {"autoscaling": {"maxReplicas": 3, "metric": {"type": "GPU", "cpu": {}}}}, "write type: CPU",
    ),
    "a query with another type": (
        {"autoscaling": {"maxReplicas": 3, "metric": {"prometheus": PROMETHEUS}}}, "give both or neither",
    ),
    "Prometheus without a query": (
        {"autoscaling": {"maxReplicas": 3, "metric": {"type": "Prometheus"}}}, "give both or neither",
    ),
    "a threshold of nothing": (
        {"autoscaling": {"maxReplicas": 3, "metric": {"type": "Prometheus", "prometheus": NOTHING}}},
        "threshold must be more than 0",
    ),
    "a batch delay that cannot act": ({"runtime": {"torchServe": {"maxBatchDelay": "5ms"}}}, "greater batchSize"),
    "weights that do not ascend": (steps({"setWeight": 50}, {"setWeight": 25}), "weights must ascend"),
    "a weight twice": (steps({"setWeight": 50}, {"setWeight": 50}), "weights must ascend"),
    "a weight above 100": (steps({"setWeight": 101}), "less than or equal to 100"),
    "a weight below 0": (steps({"setWeight": -1}), "greater than or equal to 0"),
    "a step of two kinds": (steps({"setWeight": 5, "pause": {}}), "give exactly one of setWeight, pause and analysis"),
    "a step of none": (steps({}), "give exactly one of setWeight, pause and analysis"),
    "an analysis without traffic": (steps({"analysis": {}}, {"setWeight": 5}), "write a setWeight above 0 before it"),
    "an analysis after weight 0": (steps({"setWeight": 0}, {"analysis": {}}), "write a setWeight above 0 before it"),
    "a margin of an unknown metric": (
        steps({"setWeight": 5}, {"analysis": {"margins": {"latency-p99": "5%"}}}), "must name metrics of spec.analysis",
    ),
    "a margin of nothing": (
        steps({"setWeight": 5}, {"analysis": {"margins": {"error-rate": "0%"}}}), "a margin must be above 0%",
    ),
    "a margin without unit": (
        steps({"setWeight": 5}, {"analysis": {"margins": {"error-rate": "5"}}}), "should match",
    ),
    "a risk of a half": ({"analysis": {"falseAlarmRate": "50%"}}, "must be above 0% and below 50%"),
    "a risk of nothing": ({"analysis": {"missRate": "0%"}}, "must be above 0% and below 50%"),
    "no metric": ({"analysis": {"metrics": []}}, "should have at least 1 items"),
    "a metric that nobody measures": (metrics(("throughput", "Relative", "5%")), "any other metric needs a query"),
    "a metric twice": (metrics(("error-rate", "Absolute", "1%"), ("error-rate", "Absolute", "2%")), "Duplicate value"),
    "latency in percentage points": (metrics(("latency-p90", "Absolute", "5%")), "write Relative"),
    "a margin of more than all requests": (metrics(("error-rate", "Absolute", "101%")), "and at most 100%"),
    "a baseline without steps": (
        {"analysis": {"baseline": True}, "strategy": {"canary": {"steps": []}}}, "cannot act without steps",
    ),
    "a drift in relative terms": (metrics(("prediction-drift", "Relative", "5%")), "write Absolute"),
    "a query named as one of ours": (asked(name="error-rate"), "any other metric needs a query"),
    "a query named as a latency": (asked(name="latency-of-mine"), "write it like refunds"),
    "a query that counts nothing": (asked(failures=None), "give exactly one of failures"),
    "a query of both kinds": (asked(sum='s{a="$arm"}', bounds=["0", "1"]), "give exactly one of failures"),
    "a query that gives both arms one answer": (asked(total="orders_total"), "a query without $arm"),
    "a mean without bounds": (asked(failures=None, sum='s{a="$arm"}'), "sum and bounds go together"),
    "bounds the wrong way round": (asked(failures=None, sum='s{a="$arm"}', bounds=["5", "500m"]), "sum and bounds go"),
    "bounds of a count": (asked(bounds=["0", "1"]), "sum and bounds go together"),
    "a relative mean that begins above 0": (
        asked(margin="Relative", failures=None, sum='s{a="$arm"}', bounds=["1", "5"]), "write Absolute",
    ),
    "bursts on a mean": (
        {"analysis": {"bursts": "5s", **asked(failures=None, sum='s{a="$arm"}', bounds=["0", "5"])["analysis"]}},
        "bursts cannot act on a mean",
    ),
    "a Prometheus of its own": ({"analysis": {"prometheus": "http://10.0.0.1"}}, "set operator.prometheus"),
    "a guardrail of everything": ({"analysis": {"guardrails": [{"atMost": "100%"}]}}, "above 0% and below 100%"),
    "a guardrail of nothing": ({"analysis": {"guardrails": [{"atMost": "0%"}]}}, "above 0% and below 100%"),
    "a guardrail on answers of no time": (
        {"analysis": {"guardrails": [{"atMost": "5%", "slowerThan": "0s"}]}}, "must be more than 0",
    ),
    "one limit twice": (
        {"analysis": {"guardrails": [{"atMost": "5%"}, {"atMost": "9%"}]}}, "keep the stricter",
    ),
    "one limit on slow answers twice": (
        {"analysis": {"guardrails": [{"atMost": "5%", "slowerThan": "1s"}, {"atMost": "9%", "slowerThan": "1s"}]}},
        "keep the stricter",
    ),
    "bursts of a day": ({"analysis": {"bursts": "1d"}}, "write at most 60s"),
    "bursts of two minutes": ({"analysis": {"bursts": "1m61s"}}, "write at most 60s"),
    **{
        f"a pod's {name}": ({"podTemplate": {"spec": {name: value}}}, f"{name} is refused: ")
        for name, value in {
            "hostNetwork": True, "hostPID": True, "hostIPC": True, "restartPolicy": "Never", "securityContext": {},
            "terminationGracePeriodSeconds": 1, "activeDeadlineSeconds": 1,
        }.items()
    },
    **{
        f"{name} of the server": (pod(containers=[{"name": "server", name: value}]), f"{name} of server or fetch is ")
        for name, value in {
            "command": ["sh"], "args": ["x"], "ports": [{"containerPort": 1}], "lifecycle": {}, "readinessProbe": {},
            "livenessProbe": {}, "startupProbe": {}, "securityContext": {},
        }.items()
    },
    "command of fetch": (pod(initContainers=[{"name": "fetch", "command": ["sh"]}]), "process 1 is ours"),
    "a path of the node": (pod(volumes=[{"name": "data", "hostPath": {"path": "/"}}]), "use another volume"),
    "a volume named as ours": (pod(volumes=[{"name": "models", "emptyDir": {}}]), "give it another name"),
    "a container without name": (pod(containers=[{"image": "x"}]), "containers[0].name"),
    "a label of ours": (
        {"podTemplate": {"metadata": {"labels": {"modelyard.dev/arm": "x"}}}}, "selectors need them; use others",
    ),
    "no time": ({"analysis": {"maxDuration": "0s"}}, "must be more than 0"),
    "a duration without unit": ({"analysis": {"maxDuration": "30"}}, "should match"),
    "a port, which is for laptops": ({"traffic": {"port": 8080}}, "port is for a laptop"),
    "retries that cannot act": ({"traffic": {"gateway": "Other", "retries": 2}}, "retries cannot act"),
    "too many retries": ({"traffic": {"retries": 11}}, "less than or equal to 10"),
    "hostnames without gateways": ({"traffic": {"hostnames": ["a.example"]}}, "name them in parentRefs"),
    "an adoption without gateways": ({"traffic": {"adopt": True}}, "name them in parentRefs"),
    "a filter that rewrites": (
        {"traffic": {"parentRefs": [{"name": "g"}], "filters": [{"type": "URLRewrite", "urlRewrite": {}}]}},
        "URLRewrite and RequestRedirect are refused",
    ),
    "an alias to restore for a pinned version": (
        {"model": {"name": "digits", "version": "7"}, "rollback": {"alias": "Restore"}}, "no alias to put back",
    ),
    "nothing to retain": ({"rollback": {"retain": 0}}, "greater than or equal to 1"),
    "a field that nobody knows": ({"strtegy": {}}, 'unknown field "spec.strtegy"'),
    "a field that nobody knows, deep down": (
        {"runtime": {"torchServe": {"batchsize": 8}}}, 'unknown field "spec.runtime.torchServe.batchsize"',
    ),
    "text for a number": ({"replicas": "2"}, "spec.replicas"),
    "a runtime that nobody knows": ({"runtime": {"type": "Triton"}}, "spec.runtime.type"),
}  # fmt: skip


def wish(namespace: str, spec: Mapping[str, Any], *, name: str = "digits") -> dict[str, Any]:
    return {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": MODEL, **spec},
    }


@pytest.fixture
def kube(cluster: Cluster) -> KubeClient:
    return cluster.kube


def test_it_is_refused_and_the_message_says_what_to_write(kube: KubeClient, namespace: str) -> None:
    """All in one test: they share a namespace, and a request is milliseconds."""
    wrong: dict[str, str] = {}
    for case, (spec, told) in REFUSED.items():
        try:
            kube.create(wish(namespace, spec), manager="tests")
        except Refused as error:
            if told not in error.what:
                wrong[case] = error.what
            continue
        wrong[case] = "taken"
        kube.delete(MODEL_DEPLOYMENT, namespace, "digits")
    assert wrong == {}


def test_every_rule_of_the_definitions_is_one_that_was_seen_to_refuse() -> None:
    told = [message for _, message in REFUSED.values()]
    rules = _messages(yaml.safe_load(_file("modeldeployments").read_text()))
    elsewhere = ("metadata.name becomes", "gpu cannot act", "queueLatency cannot act", "margin.value must be above 0%")
    unseen = [rule for rule in rules if not any(part in rule for part in (*told, *elsewhere))]
    assert unseen == []


def test_a_wish_gets_the_defaults_that_we_give_it(kube: KubeClient, namespace: str) -> None:
    made = kube.create(wish(namespace, {}), manager="tests")
    text = f"{{metadata: {{name: digits, namespace: {namespace}}}, spec: {{model: {{name: digits, alias: champion}}}}}}"
    assert from_object(ModelDeployment, made).spec == parse_deployment(text).spec


def test_a_whole_wish_comes_back_equal(kube: KubeClient, namespace: str) -> None:
    given = ModelDeployment(metadata=Metadata(name="digits", namespace=namespace), spec=WHOLE)
    made = from_object(ModelDeployment, kube.create(to_object(given), manager="tests"))
    assert made.spec == given.spec


def test_a_status_comes_back_equal_and_kubectl_shows_it(cluster: Cluster, namespace: str) -> None:
    kube = cluster.kube
    status = DeploymentStatus(
        observed_generation=1,
        stable=StableStatus(version="6", digest=DIGEST, arm="a1", ready_replicas=2),
        canary=CanaryStatus(version="7", weight=5, step="1/4"),
        alias={"name": "champion", "version": "7", "observedAt": 1_763_816_506.25},
        rollout="digits-00002",
        conditions=(READY,),
    )
    made = kube.create(wish(namespace, {}), manager="tests")
    thing = {**made, "status": to_object(ModelDeployment(metadata=META, spec=WHOLE, status=status))["status"]}
    written = kube.replace(thing, manager="tests", subresource="status")
    assert from_object(ModelDeployment, written).status == status

    shown = cluster.kubectl("get", "mdep", "-n", namespace).stdout.splitlines()
    assert shown[0].split() == ["NAME", "STABLE", "CANARY", "WEIGHT", "STEP", "VERDICT", "READY", "AGE"]
    assert shown[1].split()[:6] == ["digits", "6", "7", "5", "1/4", "True"]
    everything = cluster.kubectl("get", "all", "-n", namespace).stdout
    assert "modeldeployment.modelyard.dev/digits" in everything
    waited = cluster.kubectl("wait", "--for=condition=Ready", "mdep/digits", "-n", namespace, "--timeout=5s")
    assert waited.returncode == 0, waited.stderr


def test_kubectl_edit_and_patch_change_what_they_name_and_nothing_else(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kubectl sends a merge patch for custom resources: a list is replaced whole, what is null falls to its default."""
    given = wish(namespace, {"replicas": 2, **steps({"setWeight": 5}, {"setWeight": 50})})
    before = cluster.kube.create(given, manager="tests")
    monkeypatch.setenv("KUBE_EDITOR", "sed -i -e s/replicas:.2/replicas:\\ 3/")
    edited = cluster.kubectl("edit", "mdep", "digits", "-n", namespace)
    assert edited.returncode == 0, edited.stderr
    after = cluster.kube.get(MODEL_DEPLOYMENT, namespace, "digits")
    assert after is not None
    assert after["spec"] == {**before["spec"], "replicas": 3}

    def patch(spec: Mapping[str, Any]) -> tuple[int, str]:
        done = cluster.kubectl(
            "patch", "mdep", "digits", "-n", namespace, "--type=merge", "-p", json.dumps({"spec": spec})
        )
        return done.returncode, done.stderr

    assert patch(steps({"setWeight": 10})) == (0, "")
    assert patch({"replicas": None, "rollback": None}) == (0, "")
    last = cluster.kube.get(MODEL_DEPLOYMENT, namespace, "digits")
    assert last is not None
    assert last["spec"]["strategy"]["canary"]["steps"] == [{"setWeight": 10}]
    assert "replicas" not in last["spec"]
    assert last["spec"]["rollback"] == before["spec"]["rollback"]
    code, said = patch({"analysis": {"bursts": "2m"}})
    assert code == 1
    assert "write at most 60s" in said


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("mdep.spec.strategy", "How a new version comes in"),
        ("mdep.spec.strategy.canary.steps", "setWeight"),
        ("mdep.spec.model.alias", "The alias that is followed"),
        ("mro.spec.abort", "Go back to stable"),
        ("mreg.spec.mlflow.trackingURI", "https://"),
    ],
)
def test_kubectl_explains_every_field(cluster: Cluster, path: str, said: str) -> None:
    explained = cluster.kubectl("explain", path)
    assert said in explained.stdout, explained.stderr


def test_names_have_63_characters_at_most(kube: KubeClient, namespace: str) -> None:
    kube.create(wish(namespace, {}, name="a" * 63), manager="tests")
    with pytest.raises(Refused, match="at most 63 lower-case letters"):
        kube.create(wish(namespace, {}, name="a" * 64), manager="tests")
    with pytest.raises(Refused, match="at most 63 lower-case letters"):
        kube.create(wish(namespace, {}, name="a.b"), manager="tests")
    kube.create(to_object(attempt(namespace, name="a" * 63 + "-00001", deployment="a" * 63)), manager="tests")


def test_a_wish_of_ten_thousand_lines_is_taken(kube: KubeClient, namespace: str) -> None:
    environment = [{"name": f"V{number}", "value": "x"} for number in range(5_000)]
    template = {"spec": {"containers": [{"name": "server", "env": environment}]}}
    made = kube.create(wish(namespace, {"podTemplate": template}), manager="tests")
    assert made["spec"]["podTemplate"] == {"metadata": {}, **template}


def test_an_attempt_is_frozen_but_for_its_switches(kube: KubeClient, namespace: str) -> None:
    made: Any = kube.create(to_object(attempt(namespace)), manager="tests")
    others = {
        "version": "8",
        "digest": "sha256:" + "b" * 64,
        "arm": "b2",
        "deployment": "x",
        "wished": "b2",
        "steps": [{"setWeight": 100}],
        "serving": {**made["spec"]["serving"], "replicas": 7},
        "previous": {"version": "5"},
    }
    for field, value in others.items():
        with pytest.raises(Refused, match="an attempt is frozen"):
            kube.replace({**made, "spec": {**made["spec"], field: value}}, manager="tests")
    switched = kube.replace({**made, "spec": {**made["spec"], "paused": True, "resumed": 1}}, manager="tests")
    assert from_object(ModelRollout, switched).spec.paused is True


def test_an_attempt_comes_back_equal_with_its_frozen_wish(kube: KubeClient, namespace: str) -> None:
    given = attempt(namespace)
    made = from_object(ModelRollout, kube.create(to_object(given), manager="tests"))
    assert made.spec == given.spec


def test_a_field_of_a_later_release_stays_in_a_frozen_wish(kube: KubeClient, namespace: str) -> None:
    thing = to_object(attempt(namespace))
    thing["spec"]["serving"]["later"] = {"x": 1}
    made = kube.create(thing, manager="tests")
    assert made["spec"]["serving"]["later"] == {"x": 1}


def test_a_registry_comes_back_equal(kube: KubeClient, namespace: str) -> None:
    spec = ModelRegistrySpec(mlflow=MLflow(tracking_uri="https://mlflow.example.com"))
    given = ModelRegistry(metadata=Metadata(name="main", namespace=namespace), spec=spec)
    made = from_object(ModelRegistry, kube.create(to_object(given), manager="tests"))
    assert made.spec == given.spec
    found = kube.get(MODEL_REGISTRY, namespace, "main")
    assert found is not None
    for field, value in {"mlflow": {"trackingURI": "mlflow"}, "pollInterval": "0s", "pollEvery": "5s"}.items():
        with pytest.raises(Refused, match=field):
            kube.replace({**found, "spec": {**found["spec"], field: value}}, manager="tests")


def test_without_rights_the_verb_and_the_resource_are_named(cluster: Cluster, namespace: str) -> None:
    nobody = cluster.as_user("nobody")
    asked: Mapping[str, Callable[[], object]] = {
        "list modeldeployments.modelyard.dev": lambda: nobody.list(MODEL_DEPLOYMENT, namespace=namespace),
        "get modelrollouts.modelyard.dev": lambda: nobody.get(MODEL_ROLLOUT, namespace, "a"),
        "watch modelregistries.modelyard.dev": lambda: nobody.watch(
            MODEL_REGISTRY, namespace=namespace, resource_version="0", deadline_s=1
        ),
        "create modeldeployments.modelyard.dev": lambda: nobody.create(wish(namespace, {}), manager="tests"),
        "patch modeldeployments.modelyard.dev": lambda: nobody.apply(wish(namespace, {}), manager="tests"),
    }
    for told, attempt_it in asked.items():
        with pytest.raises(Forbidden, match=f"no right to {told} ") as error:
            attempt_it()
        assert told.split()[0] in error.value.do


def test_a_quota_is_refused_with_the_server_s_words(cluster: Cluster, namespace: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": namespace},
        "spec": {"hard": {"count/modeldeployments.modelyard.dev": "0"}},
        "status": {},
    }
    if not cluster.collects:
        pytest.skip("no quota controller runs here")
    assert cluster.kubectl("create", "-f", "-", text=yaml.safe_dump(quota)).returncode == 0
    ready = cluster.kubectl(
        "wait", "-n", namespace, "resourcequota/none", "--timeout=30s",
        "--for=jsonpath={.status.hard.count/modeldeployments\\.modelyard\\.dev}=0",
    )  # fmt: skip
    assert ready.returncode == 0, ready.stderr
    with pytest.raises(Refused, match="exceeded quota: none"):
        cluster.kube.create(wish(namespace, {}), manager="tests")


def attempt(namespace: str, *, name: str = "digits-00001", deployment: str = "digits") -> ModelRollout:
    spec = RolloutSpec(
        deployment=deployment,
        version="7",
        digest=DIGEST,
        arm="a1",
        serving=WHOLE,
        previous={"version": "6", "digest": DIGEST, "arm": "a0"},
        wished="a1",
        steps=WHOLE.strategy.canary.steps,
    )
    return ModelRollout(metadata=Metadata(name=name, namespace=namespace), spec=spec)


def _file(plural: str) -> Path:
    return Path(__file__).parents[3] / "charts" / "modelyard" / "definitions" / f"modelyard.dev_{plural}.yaml"


def _messages(thing: Any) -> list[str]:
    if isinstance(thing, dict):
        own = [each["message"] for each in thing.get("x-kubernetes-validations", ())]
        return own + [message for below in thing.values() for message in _messages(below)]
    return [message for below in thing for message in _messages(below)] if isinstance(thing, list) else []


META = Metadata(name="digits")
READY = Condition(
    type="Ready", status="True", reason="StableReady", last_transition_time=1_763_816_000.5, observed_generation=1
)
WHOLE = DeploymentSpec(
    model=ModelRef(name="digits", version="7"),
    pod_template=PodTemplate(
        spec={"nodeSelector": {"gpu": "h200"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]}
    ),
    autoscaling=Autoscaling(
        min_replicas=2,
        max_replicas=20,
        metric=ScalingMetric(
            type="Prometheus",
            prometheus=PrometheusMetric(server_address="http://prometheus", query="up", threshold=Quantity("5")),
        ),
    ),
    strategy=Strategy(
        canary=Steps(
            steps=(
                SetWeight(set_weight=1),
                PauseStep(pause=Pause(duration=Duration("5m"))),
                AnalysisStep(analysis=AnalysisGate(margins={"error-rate": Percentage("5%")})),
                PauseStep(pause=Pause()),
                SetWeight(set_weight=50),
            )
        )
    ),
    traffic=Traffic(
        parent_refs=(ParentRef(name="public", namespace="infra"),),
        hostnames=("digits.example.com",),
        matches=({"path": {"type": "PathPrefix", "value": "/x"}},),
        filters=({"type": "RequestHeaderModifier", "requestHeaderModifier": {"add": [{"name": "a", "value": "b"}]}},),
    ),
)
