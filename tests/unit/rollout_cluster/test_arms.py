"""Arms as Deployments, over a Kubernetes API in memory with its controllers."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.fakes.cluster import Call, FakeKube
from tests.fakes.controllers import Controllers
from tests.unit.rollout_cluster import wishes
from tests.unit.rollout_cluster.wishes import REGISTRY, SETTINGS, arm, spec_of

from modelyard.errors import BadInput, Conflict, Forbidden, NotInstalled
from modelyard.kube.metadata import ARM_LABEL, DEPLOYMENT_LABEL, name_of
from modelyard.kube.port import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HPA,
    MODEL_DEPLOYMENT,
    MODEL_REGISTRY,
    MODEL_ROLLOUT,
    NETWORK_POLICY,
    PDB,
    POD,
    POD_MONITOR,
    SCALED_OBJECT,
    SERVICE,
    Kind,
    Object,
)
from modelyard.rollout.cluster.arms import CHECK_S, MANAGER, SCALER, KubeArms
from modelyard.rollout.cluster.render import Settings
from modelyard.rollout.intents import EnsureArm
from modelyard.rollout.observation import Arm
from modelyard.spec.codec import to_data
from modelyard.spec.deployment import DeploymentSpec
from modelyard.verdict import Outcome, Reason

KEY = "vision/digits"
PARTS = (SERVICE, PDB, NETWORK_POLICY, POD_MONITOR)


class Yard:
    """A cluster with a registry and one deployment."""

    def __init__(self, text: str = wishes.PLAIN, *, absent: tuple[Kind, ...] = ()) -> None:
        self.now = 0.0
        self.kube = FakeKube(absent=absent)
        self.controllers = Controllers(self.kube)
        self.arms = KubeArms(self.kube, SETTINGS, clock=lambda: self.now)
        about = {"name": "main", "namespace": "vision"}
        spec = to_data(REGISTRY.spec)
        self.kube.apply(
            {"apiVersion": MODEL_REGISTRY.api_version, "kind": MODEL_REGISTRY.kind, "metadata": about, "spec": spec},
            manager="kubectl",
        )
        self.spec = spec_of(text)
        self.wish(self.spec)

    def wish(self, spec: DeploymentSpec) -> None:
        self.spec = spec
        about = {"name": "digits", "namespace": "vision"}
        kind = MODEL_DEPLOYMENT
        self.kube.apply(
            {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": about, "spec": to_data(spec)},
            manager="kubectl",
            force=True,
        )

    def seen(self, name: str) -> Arm:
        return self.arms.arms(KEY)[name]

    def ensure(self, wanted: EnsureArm) -> None:
        there = self.arms.arms(KEY).get(wanted.name)
        self.arms.ensure(KEY, replace(wanted, expected=there.resource_version if there else ""))

    def keep(self) -> None:
        """The end of a look."""
        self.arms.arms(KEY)
        self.arms.keep(KEY, self.spec)

    def settle(self) -> None:
        self.controllers.settle()
        self.keep()
        self.controllers.settle()

    def one(self, kind: Kind) -> Any:
        found = self.kube.all(kind)
        assert len(found) == 1, [name_of(each) for each in found]
        return found[0]

    def status(self, kind: Kind, thing: Object, status: Mapping[str, Any]) -> None:
        self.kube.replace({**thing, "status": status}, manager="test", subresource="status")


@pytest.fixture
def yard() -> Yard:
    return Yard()


def test_a_new_arm_has_everything_that_its_pods_need_before_they_are_made(yard: Yard) -> None:
    yard.ensure(arm(yard.spec))
    written = [call.kind for call in yard.kube.calls if call.verb == "apply"][-5:]
    assert written == [CONTROLLER_REVISION, CONFIG_MAP, SERVICE, DEPLOYMENT, DEPLOYMENT]
    yard.settle()
    assert yard.seen(arm(yard.spec).name).ready == 2
    assert all(yard.kube.all(kind) for kind in PARTS)


def test_a_look_at_what_is_already_so_writes_nothing_and_asks_once(yard: Yard) -> None:
    yard.ensure(arm(yard.spec))
    yard.settle()
    yard.keep()
    writes, calls = yard.kube.writes, len(yard.kube.calls)
    yard.keep()
    yard.ensure(arm(yard.spec))
    assert yard.kube.writes == writes
    assert [call.verb for call in yard.kube.calls[calls:]][:1] == ["list"]
    assert not any(call.writes for call in yard.kube.calls[calls:])


def test_an_upgrade_of_the_operator_touches_no_deployment_and_restarts_no_pod(yard: Yard) -> None:
    """Upgrading re-rendered every template and restarted the fleet (kserve #5085, opendatahub-io/kserve #1435)."""
    first = arm(yard.spec)
    yard.ensure(first)
    yard.settle()
    before, pods = yard.one(DEPLOYMENT), {name_of(pod) for pod in yard.kube.all(POD)}
    yard.arms = KubeArms(yard.kube, Settings(serving_image="modelyard/serving:2.0", endpoints_s=9))
    yard.ensure(first)
    yard.settle()
    assert yard.one(DEPLOYMENT) == before
    # also where something else of the arm changes
    yard.ensure(replace(first, replicas=3, rollout="digits-00002"))
    yard.settle()
    after = yard.one(DEPLOYMENT)
    assert after["spec"]["template"] == before["spec"]["template"]
    assert pods < {name_of(pod) for pod in yard.kube.all(POD)}


def test_an_arm_that_is_made_again_is_made_as_it_was(yard: Yard) -> None:
    yard.ensure(arm(yard.spec))
    before = yard.one(DEPLOYMENT)
    yard.kube.delete(DEPLOYMENT, "vision", name_of(before))
    yard.arms = KubeArms(yard.kube, Settings(serving_image="modelyard/serving:2.0"))
    yard.ensure(arm(yard.spec))
    assert yard.one(DEPLOYMENT)["spec"]["template"] == before["spec"]["template"]


def test_what_a_controller_writes_in_between_is_no_conflict(yard: Yard) -> None:
    yard.ensure(arm(yard.spec))

    def meanwhile(call: Call) -> None:
        if call.verb == "apply" and call.kind == DEPLOYMENT:
            yard.kube.before = lambda _call: None
            yard.controllers.settle()

    yard.kube.before = meanwhile
    yard.ensure(arm(yard.spec, replicas=3))
    assert yard.seen(arm(yard.spec).name).replicas == 3


def test_a_template_that_somebody_edited_is_put_right_with_the_next_change(yard: Yard) -> None:
    yard.ensure(arm(yard.spec))
    yard.settle()
    frozen = yard.one(CONTROLLER_REVISION)["data"]["template"]
    found = yard.one(DEPLOYMENT)
    found["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"
    yard.kube.replace(found, manager="kubectl")
    yard.ensure(replace(arm(yard.spec), replicas=3))
    assert yard.one(DEPLOYMENT)["spec"]["template"] == frozen


def test_replicas_that_somebody_scaled_by_hand_are_told_and_set_right(yard: Yard) -> None:
    """A missed event left a stale replica count for good (Argo Rollouts #3316)."""
    wanted = arm(yard.spec)
    yard.ensure(wanted)
    yard.settle()
    found = yard.one(DEPLOYMENT)
    found["spec"]["replicas"] = 7
    yard.kube.replace(found, manager="kubectl")
    assert yard.seen(wanted.name).replicas == 7
    yard.ensure(wanted)
    assert yard.one(DEPLOYMENT)["spec"]["replicas"] == 2


def test_a_part_that_somebody_removed_comes_back(yard: Yard) -> None:
    yard.ensure(arm(yard.spec))
    yard.settle()
    yard.kube.delete(SERVICE, "vision", name_of(yard.one(SERVICE)))
    yard.now += CHECK_S
    yard.keep()
    assert yard.one(SERVICE)


def test_a_retired_arm_is_gone_with_all_its_parts_but_its_template_stays(yard: Yard) -> None:
    wanted = arm(yard.spec)
    yard.ensure(wanted)
    yard.settle()
    about = {"name": "digits-00001", "namespace": "vision", "labels": {DEPLOYMENT_LABEL: "digits"}}
    kind, spec = MODEL_ROLLOUT, {"deployment": "digits", "arm": wanted.name}
    yard.kube.apply(
        {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": about, "spec": spec}, manager="test"
    )
    yard.arms.retire(KEY, wanted.name, expected=yard.seen(wanted.name).resource_version)
    assert yard.seen(wanted.name).replicas == 0
    yard.settle()
    yard.settle()
    assert yard.arms.arms(KEY) == {}
    assert not any(yard.kube.all(kind) for kind in (DEPLOYMENT, CONFIG_MAP, *PARTS))
    assert yard.one(CONTROLLER_REVISION)


def test_templates_that_no_attempt_names_any_more_are_removed(yard: Yard) -> None:
    wanted = arm(yard.spec)
    yard.ensure(wanted)
    yard.settle()
    yard.arms.retire(KEY, wanted.name, expected=yard.seen(wanted.name).resource_version)
    yard.settle()
    yard.settle()
    assert not yard.kube.all(CONTROLLER_REVISION)


def test_who_was_killed_between_the_mark_and_the_shrinking_is_finished_by_the_next(yard: Yard) -> None:
    wanted = arm(yard.spec)
    yard.ensure(wanted)
    yard.settle()
    version, applied = yard.seen(wanted.name).resource_version, []

    def die(call: Call) -> None:
        applied.extend([call] if call.verb == "apply" else [])
        if len(applied) == 2:
            raise KeyboardInterrupt

    yard.kube.before = die
    with pytest.raises(KeyboardInterrupt):
        yard.arms.retire(KEY, wanted.name, expected=version)
    yard.kube.before = lambda _call: None
    assert yard.one(DEPLOYMENT)["spec"]["replicas"] == 2
    assert yard.seen(wanted.name).replicas == 0
    for _ in range(3):
        yard.settle()
    assert yard.arms.arms(KEY) == {}


def test_an_arm_that_is_wanted_again_on_its_way_out_comes_back(yard: Yard) -> None:
    wanted = arm(yard.spec)
    yard.ensure(wanted)
    yard.settle()
    yard.arms.retire(KEY, wanted.name, expected=yard.seen(wanted.name).resource_version)
    yard.ensure(wanted)
    yard.settle()
    assert (yard.seen(wanted.name).replicas, yard.seen(wanted.name).ready) == (2, 2)


def test_what_controllers_say_of_an_arm_is_no_conflict_but_what_another_leader_did_is(yard: Yard) -> None:
    """The old leader went on working beside the new one (Argo Rollouts #2117)."""
    wanted = arm(yard.spec)
    yard.ensure(wanted)
    old = yard.seen(wanted.name).resource_version
    yard.controllers.settle()
    yard.arms.ensure(KEY, replace(wanted, replicas=3, expected=old))
    with pytest.raises(Conflict):
        yard.arms.retire(KEY, wanted.name, expected=old)


def test_an_arm_of_another_deployment_is_never_seen(yard: Yard) -> None:
    yard.ensure(arm(yard.spec))
    assert yard.arms.arms("vision/other") == {}


# autoscaling


def scaled(yard: Yard, count: int) -> None:
    """What an HPA does."""
    found = yard.one(DEPLOYMENT)
    found["spec"]["replicas"] = count
    yard.kube.replace(found, manager="kube-controller-manager")


def test_under_an_autoscaler_replicas_are_never_written_and_the_floor_is_its_minimum() -> None:
    """An autoscaler's event scaled stable to zero in mid-canary (Argo Rollouts #1415)."""
    yard = Yard(wishes.FULL)
    wanted = arm(yard.spec)
    yard.ensure(wanted)
    yard.settle()
    assert SCALER not in yard.kube.managers(DEPLOYMENT, "vision", name_of(yard.one(DEPLOYMENT)))
    assert yard.one(HPA)["spec"]["minReplicas"] == 2
    scaled(yard, 9)
    assert (yard.seen(wanted.name).replicas, yard.seen(wanted.name).scaled) == (2, 9)
    yard.ensure(replace(wanted, replicas=9))  # a canary begins: stable keeps what it was given
    yard.settle()
    assert yard.one(HPA)["spec"]["minReplicas"] == 9
    assert yard.one(DEPLOYMENT)["spec"]["replicas"] == 9


def test_from_a_number_to_an_autoscaler_and_back_no_replica_is_lost_between() -> None:
    yard = Yard()
    wanted = arm(yard.spec, replicas=5)
    yard.ensure(wanted)
    yard.settle()
    yard.wish(replace(yard.spec, autoscaling=spec_of(wishes.FULL).autoscaling))
    yard.settle()
    assert yard.one(HPA)
    assert yard.one(DEPLOYMENT)["spec"]["replicas"] == 5
    scaled(yard, 8)
    yard.wish(replace(yard.spec, autoscaling=None))
    yard.keep()
    assert not yard.kube.all(HPA)
    assert yard.one(DEPLOYMENT)["spec"]["replicas"] == 8
    assert yard.seen(wanted.name).replicas == 8
    yard.ensure(wanted)
    assert yard.one(DEPLOYMENT)["spec"]["replicas"] == 5


def test_an_hpa_and_keda_never_scale_one_arm_at_once_and_changing_between_them_ends_well() -> None:
    """Changing from HPA to KEDA wedged the object (kserve/kserve #5196)."""
    yard = Yard(wishes.FULL)
    yard.ensure(arm(yard.spec))
    yard.settle()
    hpa = yard.one(HPA)
    hpa["metadata"]["finalizers"] = ["example.com/slow"]
    yard.kube.replace(hpa, manager="somebody")
    yard.wish(replace(yard.spec, autoscaling=spec_of(wishes.QUERY).autoscaling))
    yard.keep()
    assert not yard.kube.all(SCALED_OBJECT)  # the HPA is still on its way out
    hpa = yard.one(HPA)
    hpa["metadata"].pop("finalizers")
    yard.kube.replace(hpa, manager="somebody")
    yard.kube.delete(HPA, "vision", name_of(hpa))
    yard.keep()
    assert yard.one(SCALED_OBJECT)
    yard.wish(replace(yard.spec, autoscaling=spec_of(wishes.FULL).autoscaling))
    yard.keep()
    assert yard.one(HPA)
    assert not yard.kube.all(SCALED_OBJECT)


def test_without_keda_the_condition_says_so_and_the_arm_still_has_its_fewest_replicas() -> None:
    yard = Yard(wishes.QUERY, absent=(SCALED_OBJECT,))
    yard.ensure(arm(yard.spec, replicas=3))
    with pytest.raises(NotInstalled, match=r"ScaledObject|scaledobjects"):
        yard.keep()
    yard.controllers.settle()
    assert yard.one(DEPLOYMENT)["spec"]["replicas"] == 3
    assert yard.one(PDB)


def test_without_prometheus_operator_everything_else_is_there() -> None:
    yard = Yard(absent=(POD_MONITOR,))
    yard.ensure(arm(yard.spec))
    yard.settle()
    assert all(yard.kube.all(kind) for kind in (SERVICE, PDB, NETWORK_POLICY))


# what is wrong


def test_a_missing_registry_is_named(yard: Yard) -> None:
    yard.kube.delete(MODEL_REGISTRY, "vision", "main")
    with pytest.raises(BadInput, match="no ModelRegistry main in namespace vision"):
        yard.ensure(arm(yard.spec))
    assert not yard.kube.all(DEPLOYMENT)


def test_missing_rights_name_verb_and_resource(yard: Yard) -> None:
    def forbid(call: Call) -> None:
        if call.writes and call.kind == DEPLOYMENT:
            raise Forbidden("may not patch deployments.apps in vision", do="grant it")

    yard.kube.before = forbid
    with pytest.raises(Forbidden, match=r"patch deployments\.apps"):
        yard.ensure(arm(yard.spec))


@pytest.mark.parametrize(
    ("broken", "outcome", "said"),
    [
        ("pull", Outcome.INCONCLUSIVE, "cannot be pulled: ImagePullBackOff"),
        ("unschedulable", Outcome.INCONCLUSIVE, "cannot be scheduled: 0/3 nodes fit"),
        ("oom", Outcome.FAILED, "OOMKilled"),
        ("crash", Outcome.FAILED, r"the server ended with 1 \(3 restarts\)"),
    ],
)
def test_a_broken_arm_says_why_and_whose_fault_it_is(yard: Yard, broken: str, outcome: Outcome, said: str) -> None:
    """The reason of an OOM kill or a failed image pull was lost (kubeflow/pipelines #13192)."""
    wanted = arm(yard.spec)
    yard.controllers.broken[wanted.digest] = broken
    yard.ensure(wanted)
    yard.settle()
    failure = yard.seen(wanted.name).failure
    assert failure is not None
    assert (failure.outcome, failure.reason) == (outcome, Reason.CANARY_UNAVAILABLE)
    assert re.search(said, failure.message)


@pytest.mark.parametrize(
    ("told", "outcome", "reason"),
    [
        ('{"reason": "DigestMismatch", "message": "other bytes"}', Outcome.FAILED, Reason.DIGEST_MISMATCH),
        ('{"reason": "ArtifactMissing", "message": "no archive"}', Outcome.FAILED, Reason.ARTIFACT_MISSING),
        ('{"reason": "RegistryUnavailable", "message": "away"}', Outcome.INCONCLUSIVE, Reason.CANARY_UNAVAILABLE),
        ("Traceback (most recent call last)", Outcome.INCONCLUSIVE, Reason.CANARY_UNAVAILABLE),
    ],
)
def test_what_the_container_that_fetches_says_becomes_the_reason(
    yard: Yard, told: str, outcome: Outcome, reason: Reason
) -> None:
    wanted = arm(yard.spec, replicas=1)
    yard.ensure(wanted)
    yard.controllers.settle()
    ended = {"terminated": {"exitCode": 65, "reason": "Error", "message": told}}
    fetching = {"name": "fetch", "ready": False, "restartCount": 2, "state": {}, "lastState": ended}
    pod = yard.one(POD)
    yard.status(POD, pod, {"phase": "Pending", "initContainerStatuses": [fetching]})
    found = yard.one(DEPLOYMENT)
    yard.status(DEPLOYMENT, found, {"observedGeneration": found["metadata"]["generation"], "replicas": 1})
    failure = yard.seen(wanted.name).failure
    assert failure is not None
    assert (failure.outcome, failure.reason) == (outcome, reason)


def test_a_quota_that_is_used_up_says_so_and_marks_no_version(yard: Yard) -> None:
    wanted = arm(yard.spec)
    yard.ensure(wanted)
    said = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: gpu"}
    yard.status(DEPLOYMENT, yard.one(DEPLOYMENT), {"observedGeneration": 1, "conditions": [said]})
    failure = yard.seen(wanted.name).failure
    assert failure is not None
    assert (failure.outcome, "exceeded quota" in failure.message) == (Outcome.INCONCLUSIVE, True)


def test_all_is_owned_by_the_deployment_and_applied_by_one_manager(yard: Yard) -> None:
    yard.ensure(arm(yard.spec))
    yard.settle()
    for kind in (DEPLOYMENT, CONTROLLER_REVISION, CONFIG_MAP, *PARTS):
        thing = yard.one(kind)
        assert [each["name"] for each in thing["metadata"]["ownerReferences"]] == ["digits"]
        assert thing["metadata"]["labels"][ARM_LABEL] == arm(yard.spec).name
        assert MANAGER in yard.kube.managers(kind, "vision", name_of(thing))
    yard.kube.delete(MODEL_DEPLOYMENT, "vision", "digits")
    assert not any(yard.kube.all(kind) for kind in (DEPLOYMENT, SERVICE, CONFIG_MAP))
