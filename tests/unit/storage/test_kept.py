"""Files of a bucket kept on this machine: bounded, the least recently used go, processes do not disturb each other."""

import multiprocessing
import os
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import BadInput
from modelyard.processes import wait_until
from modelyard.storage.atomic import digest_bytes
from modelyard.storage.kept import NAME, VARIABLE, Kept, kept_here

KB = 1000


class Bucket:
    """Ten files of 1 KB; counts how often each is fetched, in a file of its own so that processes may share it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        self.bytes = {number: bytes([number]) * KB for number in range(10)}

    def digest(self, number: int) -> str:
        return digest_bytes(self.bytes[number])

    @contextmanager
    def fetch(self, number: int) -> Iterator[Path]:
        with (self.home / "fetched").open("a") as told:
            told.write(f"{number}\n")
        path = self.home / f"{number}-{os.getpid()}-{threading.get_ident()}"
        path.write_bytes(self.bytes[number])
        yield path
        path.unlink()

    @property
    def fetched(self) -> list[int]:
        return [int(line) for line in (self.home / "fetched").read_text().splitlines()]

    def read(self, kept: Kept, numbers: Sequence[int]) -> None:
        for number in numbers:
            with kept.opened(self.digest(number), lambda number=number: self.fetch(number)) as path:  # type: ignore[misc]
                assert path.read_bytes() == self.bytes[number]


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path / "bucket")


def held(kept: Kept) -> int:
    return sum(path.stat().st_size for path in kept.folder.iterdir() if len(path.name) == NAME)


def test_what_was_fetched_is_not_fetched_again_and_the_least_recently_used_goes_first(
    bucket: Bucket, tmp_path: Path
) -> None:
    kept = Kept(tmp_path / "kept", 3 * KB)
    bucket.read(kept, [0, 1, 2, 0, 3, 0, 1])
    assert bucket.fetched == [0, 1, 2, 3, 1]  # 3 took the place of 1, not of 0, which was used again
    assert held(kept) == 3 * KB


def test_over_any_order_it_fetches_what_a_list_of_the_last_uses_says(bucket: Bucket, tmp_path: Path) -> None:
    kept, chance = Kept(tmp_path / "kept", 4 * KB), random.Random(7)
    numbers = [chance.randrange(10) for _ in range(80)]
    wanted, last = [], list[int]()
    for number in numbers:
        wanted += [] if number in last[-4:] else [number]
        last = [*(one for one in last if one != number), number]
    bucket.read(kept, numbers)
    assert bucket.fetched == wanted


def test_it_never_holds_more_than_its_limit_and_what_is_larger_is_not_kept(bucket: Bucket, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept", 2 * KB + 1)
    for number in range(10):
        bucket.read(kept, [number])
        assert held(kept) <= kept.limit
    none = Kept(tmp_path / "none", KB - 1)
    bucket.read(none, [0, 0])
    assert held(none) == 0


def test_a_file_that_is_removed_while_it_is_mapped_stays_readable(bucket: Bucket, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept", KB)
    with kept.opened(bucket.digest(0), lambda: bucket.fetch(0)) as path:
        mapped = path.open("rb")
    bucket.read(kept, [1])
    assert held(kept) == KB
    with mapped:
        assert mapped.read() == bucket.bytes[0]


def test_a_file_that_another_opens_just_now_is_not_removed(bucket: Bucket, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept", KB)
    bucket.read(kept, [0])
    with kept.opened(bucket.digest(0), lambda: bucket.fetch(0)) as path:
        other = threading.Thread(target=bucket.read, args=(kept, [1]))
        other.start()
        other.join(30)
        assert path.read_bytes() == bucket.bytes[0]
    assert bucket.fetched == [0, 1]


def _rank(bucket: Bucket, kept: Kept, numbers: Sequence[int], failed: Any) -> None:
    try:
        bucket.read(kept, numbers)
    except BaseException:
        failed.set()
        raise


def test_ranks_of_a_node_share_it_and_fetch_each_file_once(bucket: Bucket, tmp_path: Path) -> None:
    """Processes by fork, without torch: what a rank's reader does, in opposite orders and over a small limit too."""
    fork = multiprocessing.get_context("fork")
    failed = fork.Event()
    roomy, tight = Kept(tmp_path / "roomy", 10 * KB), Kept(tmp_path / "tight", 3 * KB)
    up, down = list(range(10)), list(reversed(range(10)))

    def both(kept: Kept, times: int) -> None:
        ranks = [fork.Process(target=_rank, args=(bucket, kept, order * times, failed)) for order in (up, down)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            wait_until(lambda rank=rank: not rank.is_alive(), deadline_s=60, what="a rank")  # type: ignore[misc]
            rank.join()

    both(roomy, 3)
    assert sorted(bucket.fetched) == up
    both(tight, 5)
    assert not failed.is_set()
    assert held(tight) <= tight.limit


def test_a_file_that_turned_out_to_be_another_is_forgotten(bucket: Bucket, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept", 3 * KB)
    bucket.read(kept, [0])
    (kept.folder / bucket.digest(0).removeprefix("sha256:")).write_bytes(b"other")
    kept.forget(bucket.digest(0))
    bucket.read(kept, [0])
    assert bucket.fetched == [0, 0]


def test_a_folder_that_another_user_could_change_is_refused(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path / "kept", 3 * KB)
    bucket.read(kept, [0])
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    with pytest.raises(BadInput, match="belongs to another user"):
        bucket.read(kept, [0])


@pytest.mark.parametrize("said", ["much", "-1", "8 GB"])
def test_an_amount_that_is_none_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(BadInput, match=r"MODELYARD_SHARD_CACHE: .* write it like 8Gi|like 8Gi"):
        kept_here()


def test_the_amount_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "2Gi")
    assert (kept := kept_here()) is not None
    assert kept.limit == 2 * 2**30
    monkeypatch.setenv(VARIABLE, "0")
    assert kept_here() is None
