"""Leader election: never two that may write, whatever hangs, and somebody always leads in the end."""

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.fakes.cluster import Call, FakeKube

from modelyard.errors import Unavailable
from modelyard.kube.port import CONFIG_MAP, LEASE
from modelyard_operator.lease import DURATION_S, RENEW_S, RETRY_S, Claim, Elector, Fence, NotLeading, Seen, act, seen

MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "any", "namespace": "default"}}


class Replica:
    """An elector with a clock that shows another time than anybody else's."""

    def __init__(self, kube: FakeKube, me: str, time: "Time", offset: float) -> None:
        self.elector = Elector(kube, namespace="modelyard", name="operator", me=me, clock=lambda: time.now + offset)

    @property
    def leads(self) -> bool:
        return self.elector.leading()


class Time:
    now = 0.0


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


def test_the_first_one_leads_and_another_waits_as_long_as_it_renews(kube: FakeKube, time: Time) -> None:
    a, b = Replica(kube, "a", time, 0.0), Replica(kube, "b", time, -1e6)
    for _ in range(50):
        a.elector.turn()
        b.elector.turn()
        assert (a.leads, b.leads) == (True, False)
        time.now += RETRY_S


def test_who_cannot_renew_stops_writing_before_another_starts(kube: FakeKube, time: Time) -> None:
    """The old leader goes on working beside the new one: argoproj/argo-rollouts #2117."""
    a, b = Replica(kube, "a", time, 1e6), Replica(kube, "b", time, 0.0)
    a.elector.turn()
    b.elector.turn()
    stopped = started = None
    for _ in range(200):
        time.now += 0.1
        b.elector.turn()
        stopped = time.now if stopped is None and not a.leads else stopped
        started = time.now if started is None and b.leads else started
    assert stopped is not None
    assert started is not None
    assert started - stopped >= DURATION_S - RENEW_S - 0.2
    assert not a.elector.turn(), "it reads that another one leads"


def test_a_lease_that_was_released_is_taken_at_once(kube: FakeKube, time: Time) -> None:
    a, b = Replica(kube, "a", time, 0.0), Replica(kube, "b", time, 0.0)
    a.elector.turn()
    b.elector.turn()
    a.elector.release()
    assert not a.leads
    assert b.elector.turn()
    (lease,) = kube.all(LEASE)
    assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]) == ("b", 2)


def test_a_deleted_lease_makes_no_second_leader(kube: FakeKube, time: Time) -> None:
    a, b = Replica(kube, "a", time, 0.0), Replica(kube, "b", time, 0.0)
    a.elector.turn()
    b.elector.turn()
    kube.delete(LEASE, "modelyard", "operator")
    assert not b.elector.turn()
    time.now += DURATION_S
    assert not a.leads
    assert b.elector.turn()


def test_a_replica_that_hangs_in_its_renewal_does_not_lead_by_a_late_answer(kube: FakeKube, time: Time) -> None:
    a, b = Replica(kube, "a", time, 0.0), Replica(kube, "b", time, 0.0)
    a.elector.turn()
    b.elector.turn()

    def hang(call: Call) -> None:
        if call.writes:
            kube.after = lambda _call: None
            time.now += RENEW_S + 1.0

    time.now += RETRY_S
    kube.after = hang
    assert not a.elector.turn(), "its renewal began too long ago"


@pytest.mark.parametrize(
    ("claim", "waited", "expected"),
    [
        (Claim(), 0.0, "take"),
        (Claim(holder="me", version="1"), 0.0, "renew"),
        (Claim(holder="other", version="1"), DURATION_S - 0.1, "wait"),
        (Claim(holder="other", version="1"), DURATION_S, "take"),
        (Claim(holder="other", version="1", duration_s=60.0), 59.0, "wait"),
        (Claim(holder="", version="4"), 0.0, "take"),
    ],
    ids=[
        "nobody ever held it",
        "it is mine",
        "another one holds it and may still write",
        "another one has not renewed for its duration",
        "another one wants more time than I",
        "it was released",
    ],
)
def test_what_to_do_about_a_lease(claim: Claim, waited: float, expected: str) -> None:
    assert act(Seen(claim=claim, since=100.0), "me", 100.0 + waited) == expected


def test_only_a_change_that_was_seen_begins_the_wait_anew() -> None:
    first = seen(None, Claim(holder="a", version="1"), 10.0)
    assert seen(first, Claim(holder="a", version="1"), 20.0).since == 10.0
    assert seen(first, Claim(holder="a", version="2"), 20.0).since == 20.0


def test_no_write_passes_the_fence_of_one_that_does_not_lead(kube: FakeKube) -> None:
    leading = False
    fence = Fence(kube, lambda: leading)
    writes: list[Callable[[], object]] = [
        lambda: fence.create(MAP, manager="m"),
        lambda: fence.apply(MAP, manager="m"),
        lambda: fence.replace(MAP, manager="m"),
        lambda: fence.delete(CONFIG_MAP, "default", "any"),
    ]
    for write in writes:
        with pytest.raises(NotLeading):
            write()
    assert fence.get(CONFIG_MAP, "default", "any") is None
    assert fence.list(CONFIG_MAP).items == ()
    assert kube.writes == 0
    leading = True
    fence.create(MAP, manager="m")
    assert kube.writes == 1


class Elections(RuleBasedStateMachine):
    """Replicas with clocks of their own; requests fail, are lost or late, and the other one has turns meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.time, self.kube = Time(), FakeKube()
        self.replicas = [Replica(self.kube, name, self.time, offset) for name, offset in (("a", 0.0), ("b", 5e5))]
        self.kube.before, self.kube.after = self.on_the_way_there, self.on_the_way_back
        self.plan: dict[str, object] = {}
        self.inside = False

    def on_the_way_there(self, call: Call) -> None:
        self.trouble("there", call)

    def on_the_way_back(self, call: Call) -> None:
        self.trouble("back", call)

    def trouble(self, way: str, call: Call) -> None:
        if self.inside or self.plan.get("way") != way or self.plan.get("writes") != call.writes:
            return
        plan, self.plan = self.plan, {}
        self.inside = True
        self.time.now += float(plan["delay"])  # type: ignore[arg-type]
        if plan["other turns"]:
            self.replicas[1 - int(plan["who"])].elector.turn()  # type: ignore[call-overload]
        self.inside = False
        self.at_most_one_may_write()
        if plan["fails"]:
            raise Unavailable("no answer", do="try again")

    @rule(
        who=st.sampled_from((0, 1, 1)),
        waited=st.sampled_from((0.0, 1.0, 6.0, 16.0)),
        way=st.sampled_from((None, "there", "back")),
        writes=st.booleans(),
        trouble=st.tuples(st.sampled_from((0.0, 1.0, 4.0)), st.booleans(), st.booleans()),
    )
    def one_takes_its_turn(
        self, who: int, waited: float, way: str | None, writes: bool, trouble: tuple[float, bool, bool]
    ) -> None:
        """`trouble`: seconds that a request takes, whether the other one has a turn meanwhile, whether it fails."""
        self.time.now += waited
        self.plan = {"who": who, "way": way, "writes": writes}
        self.plan |= dict(zip(("delay", "other turns", "fails"), trouble, strict=True))
        self.replicas[who].elector.turn()
        self.plan = {}

    @rule(seconds=st.sampled_from((0.5, 2.0, 6.0, 20.0)))
    def time_passes(self, seconds: float) -> None:
        self.time.now += seconds

    @rule(who=st.sampled_from((None, None, None, 0, 1)))
    def one_is_stopped(self, who: int | None) -> None:
        if who is not None:
            self.replicas[who].elector.release()

    @invariant()
    def at_most_one_may_write(self) -> None:
        assert sum(each.leads for each in self.replicas) <= 1

    def teardown(self) -> None:
        for _ in range(12):
            self.time.now += RETRY_S
            for each in self.replicas:
                each.elector.turn()
        assert sum(each.leads for each in self.replicas) == 1, "somebody leads in the end"


TestElections = Elections.TestCase
TestElections.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, derandomize=True, database=None
)
