"""The time queue: level-triggered, one look at a time, patient after trouble."""

import threading
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modelyard_operator.due import LONGEST_PAUSE_S, Queue, Schedule, pause_s


def test_what_wakes_a_key_many_times_makes_one_look() -> None:
    due = Schedule()
    for at in (5.0, 3.0, 4.0, 3.0):
        due.wake("a", at)
    assert due.take(2.9) is None
    assert due.take(3.0) == ("a", 3.0)
    due.done("a", again=None)
    assert due.take(100.0) is None


def test_the_earliest_is_first_and_one_that_waits_long_does_not_starve() -> None:
    due = Schedule()
    due.wake("late", 3.0)
    due.wake("early", 1.0)
    due.wake("middle", 2.0)
    assert [due.take(9.0), due.take(9.0), due.take(9.0)] == [("early", 1.0), ("middle", 2.0), ("late", 3.0)]


def test_a_key_is_never_looked_at_twice_at_once_and_an_event_meanwhile_makes_one_more_look() -> None:
    due = Schedule()
    due.wake("a", 0.0)
    assert due.take(1.0) is not None
    due.wake("a", 1.0)
    due.wake("a", 1.0)
    assert due.take(2.0) is None
    due.done("a", again=50.0)
    assert due.take(2.0) == ("a", 1.0)
    due.done("a", again=None)
    assert due.take(99.0) is None


def test_after_a_refused_write_no_stream_of_events_makes_a_hot_loop() -> None:
    """A hot loop after a PATCH answered 422: zalando-incubator/kopf #350."""
    due, now, looks = Schedule(), 0.0, 0
    due.wake("a", 0.0)
    while now < 600.0:
        due.wake("a", now)  # its own failing writes make events, ten in a second
        if due.take(now):
            looks += 1
            due.failed("a", now)
        now += 0.1
    assert looks < 35


def test_what_people_change_is_looked_at_at_once_whatever_failed_before() -> None:
    due = Schedule()
    due.wake("a", 0.0)
    for at in range(20):
        assert due.take(at * 100.0)
        due.failed("a", at * 100.0)
    due.wake("a", 1950.0)
    assert due.take(1920.0) is None
    due.wake("a", 1920.0, forgive=True)
    assert due.take(1920.0) is not None
    assert due.failed("a", 1920.0) == pause_s(1)


def test_a_good_look_forgets_earlier_trouble() -> None:
    due = Schedule()
    due.wake("a", 0.0)
    assert due.take(0.0)
    due.failed("a", 0.0)
    assert due.take(1.0)
    due.done("a", again=None)
    due.wake("a", 1.0)
    assert due.take(1.0)


def test_what_is_gone_is_not_looked_at() -> None:
    due = Schedule()
    due.wake("a", 0.0)
    due.forget("a")
    assert due.take(1.0) is None
    assert due.next_at() is None


@given(failures=st.integers(1, 10**6))
def test_pauses_grow_and_have_an_end(failures: int) -> None:
    assert 0 < pause_s(failures) <= pause_s(failures + 1) <= LONGEST_PAUSE_S


class Schedules(RuleBasedStateMachine):
    """Against the plainest model: a dictionary of times."""

    def __init__(self) -> None:
        super().__init__()
        self.due, self.now = Schedule(), 0.0
        self.wanted: dict[str, float] = {}
        self.running: set[str] = set()

    @rule(key=st.sampled_from("abc"), after=st.sampled_from((0.0, 0.5, 3.0)))
    def wake(self, key: str, after: float) -> None:
        self.due.wake(key, self.now + after, forgive=True)
        self.wanted[key] = min(self.now + after, self.wanted.get(key, self.now + after))

    @rule()
    def take(self) -> None:
        taken = self.due.take(self.now)
        waiting = {key: at for key, at in self.wanted.items() if at <= self.now and key not in self.running}
        assert (taken is None) == (not waiting)
        if taken:
            assert taken.since == min(waiting.values()) == self.wanted.pop(taken.key)
            self.running.add(taken.key)

    @rule(again=st.sampled_from((None, 0.0, 2.0)))
    def done(self, again: float | None) -> None:
        for key in sorted(self.running)[:1]:
            self.running.discard(key)
            at = None if again is None else self.now + again
            self.due.done(key, again=at)
            if at is not None:
                self.wanted[key] = min(at, self.wanted.get(key, at))

    @rule(seconds=st.sampled_from((0.5, 4.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_next_time_is_known(self) -> None:
        waiting = [at for key, at in self.wanted.items() if key not in self.running]
        assert self.due.next_at() == min(waiting, default=None)


TestSchedules = Schedules.TestCase


def test_threads_share_the_queue_and_every_key_is_looked_at_by_one_at_a_time() -> None:
    queue, inside, seen = Queue(), set[str](), dict[str, int]()
    lock, enough = threading.Lock(), threading.Event()

    def work() -> None:
        while (taken := queue.take()) is not None:
            with lock:
                assert taken.key not in inside
                inside.add(taken.key)
            with lock:
                inside.discard(taken.key)
                seen[taken.key] = seen.get(taken.key, 0) + 1
                if all(seen.get(str(key), 0) >= 20 for key in range(10)):
                    enough.set()
            queue.done(taken.key, after_s=0.0)

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(work) for _ in range(4)]
        for key in range(10):
            queue.wake(str(key))
        assert enough.wait(20.0)
        queue.close()
        for future in futures:
            future.result(timeout=10.0)
