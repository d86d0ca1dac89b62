"""Arms as processes of this machine: each replica a server of its own, in the router once it answered a prediction.

What was asked stands in `arms.json`; servers die with the yard, and a yard that starts again starts them again.
"""

import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import field, replace
from pathlib import Path

import structlog

from modelyard.errors import BadInput, Conflict, Unavailable
from modelyard.packaging.signing import public_text, signing_key
from modelyard.processes import wait_until
from modelyard.record import record
from modelyard.registry.port import Registry
from modelyard.rollout.intents import EnsureArm
from modelyard.rollout.laptop.home import Home, split_key
from modelyard.rollout.laptop.replica import NoArchive, Replica
from modelyard.rollout.laptop.router import EnvoyRouter
from modelyard.rollout.observation import Arm
from modelyard.serving.runtime import ModelServer, start_server
from modelyard.serving.signature import verify_signature
from modelyard.spec.codec import from_json, to_json
from modelyard.storage.atomic import digest_file, write_text

_APPLIED_S = 2.0
_STILL_S = 0.3

log = structlog.get_logger()

Launch = Callable[[Path, EnsureArm, Path], ModelServer]
"""Starts a server: archive, arm, a folder of its own."""


@record
class Wanted:
    """One arm as it was asked for."""

    arm: EnsureArm
    version: int
    """Resource version."""
    retiring: bool = False


@record
class Asked:
    """All arms: `arms.json`."""

    changes: int = 0
    arms: Mapping[str, Mapping[str, Wanted]] = field(default_factory=dict)
    """Key → name → arm."""


def launcher(key: Path) -> Launch:
    """Starts the server that an arm's runtime names. A laptop trusts its own key, which `package` signs with."""

    def launch(archive: Path, arm: EnsureArm, work: Path) -> ModelServer:
        model = arm.serving.model
        required = model.verification.signature == "Required"
        verify_signature(archive, {public_text(signing_key(key))}, required=required)
        return start_server(archive, digest=arm.digest, name=model.name, runtime=arm.serving.runtime, work=work)

    return launch


class LaptopArms:
    """`Arms`, as threads that each keep one server running."""

    def __init__(self, home: Home, registry: Registry, router: EnvoyRouter, *, launch: Launch | None = None) -> None:
        self._home = home
        self._registry = registry
        self._router = router
        self._launch = launch or launcher(home.key)
        self._file = home.arms / "arms.json"
        self._asked = (
            from_json(Asked, self._file.read_bytes(), where=str(self._file)) if self._file.exists() else Asked()
        )
        self._lock = threading.RLock()
        self._fetching = threading.Lock()
        self._replicas: dict[tuple[str, str], list[Replica]] = {}
        self._leaving: set[tuple[str, str]] = set()
        self._stopping = False
        self.changed: Callable[[str], None] = lambda key: None  # noqa: ARG005
        """Told the key of a deployment when one of its servers became ready or died, or an arm is gone."""

    def resume(self) -> None:
        """Start again what ran when the yard ended, and finish what was being retired."""
        with self._lock:
            for key, arms in self._asked.arms.items():
                for name, wanted in arms.items():
                    self._router.put_arm(key, name, wanted.arm.version, wanted.arm.serving)
                    if wanted.retiring:
                        self._leave(key, name)
                    else:
                        self._scale(key, name)

    def stop(self) -> None:
        """End all servers; what was asked stays on disk."""
        with self._lock:
            self._stopping = True
            replicas = [each for some in self._replicas.values() for each in some]
        _stop_all(replicas, grace=1.0)

    # The port of the loop.

    def arms(self, key: str) -> Mapping[str, Arm]:
        """All arms of a deployment. `in_flight` is 0 while Envoy is away: nothing comes through it then."""
        with self._lock:
            wanted = dict(self._asked.arms.get(key, {}))
            replicas = {name: tuple(self._replicas.get((key, name), ())) for name in wanted}
        loads = self._loads(key) if wanted else {}
        return {
            name: Arm(
                name=name,
                version=each.arm.version,
                digest=each.arm.digest,
                replicas=0 if each.retiring else each.arm.replicas,
                ready=sum(replica.port is not None for replica in replicas[name]),
                in_flight=loads.get(name, 0),
                failure=next((r.failure for r in replicas[name] if r.failure is not None), None),
                rollout=each.arm.rollout,
                resource_version=str(each.version),
            )
            for name, each in wanted.items()
        }

    def ensure(self, key: str, arm: EnsureArm) -> None:
        """Start what is missing, stop what is too many; returns before it is ready.

        Raises:
            Conflict: the arm is not at `arm.expected` any more, or is being removed.
            BadInput: the router cannot take it: its model's name or its port belongs to another deployment.
        """
        split_key(key)
        with self._lock:
            before = self._expect(key, arm.name, arm.expected)
            if (key, arm.name) in self._leaving:
                raise Conflict(f"{arm.name} of {key} is being removed", do="look again")
            if arm.replicas < 0:
                raise BadInput(f"{arm.replicas} replicas of {arm.name}", do="ask for 0 or more")
            after = replace(arm, expected="")
            if before is not None:
                after = replace(before.arm, replicas=arm.replicas, rollout=arm.rollout)
            if before is None or after != before.arm or before.retiring:
                self._router.put_arm(key, arm.name, after.version, after.serving)
                self._keep(key, arm.name, after)
            self._scale(key, arm.name)

    def retire(self, key: str, name: str, *, expected: str) -> None:
        """Drain and stop, in the background; nothing when it is gone or on its way.

        Raises:
            Conflict: it is not at resource version `expected` any more, or the weights name it.
        """
        with self._lock:
            wanted = self._asked.arms.get(key, {}).get(name)
            if wanted is None or wanted.retiring:
                return
            self._expect(key, name, expected)
            if name in self._router.weights(key).asked:
                raise Conflict(f"the route of {key} names {name}", do="take it out of the weights first")
            self._keep(key, name, wanted.arm, retiring=True)
            self._leave(key, name)

    def forget(self, keep: Collection[str]) -> None:
        """Take every deployment off the air whose key is not in `keep`: its wish was deleted. May be repeated."""
        with self._lock:
            for key in set(self._asked.arms) - set(keep):
                self._router.set_weights(key, {}, expected=self._router.weights(key).resource_version)
                for name, wanted in self._asked.arms[key].items():
                    self.retire(key, name, expected=str(wanted.version))

    # Behind it.

    def _expect(self, key: str, name: str, expected: str) -> Wanted | None:
        wanted = self._asked.arms.get(key, {}).get(name)
        now = str(wanted.version) if wanted else ""
        if now != expected:
            raise Conflict(f"{name} of {key} is at resource version {now!r}, not {expected!r}", do="look again")
        return wanted

    def _keep(self, key: str, name: str, arm: EnsureArm | None, *, retiring: bool = False) -> None:
        """Write down what is wanted of an arm; None: nothing any more."""
        mine = {other: wanted for other, wanted in self._asked.arms.get(key, {}).items() if other != name}
        changes = self._asked.changes + 1
        if arm is not None:
            mine[name] = Wanted(arm=arm, version=changes, retiring=retiring)
        arms = {**self._asked.arms, key: mine}
        self._asked = Asked(changes=changes, arms={key: some for key, some in arms.items() if some})
        write_text(self._file, to_json(self._asked))

    def _scale(self, key: str, name: str) -> None:
        """Have as many replicas as are wanted."""
        if self._stopping:
            return
        arm = self._asked.arms[key][name].arm
        replicas = self._replicas.setdefault((key, name), [])
        surplus = replicas[arm.replicas :]
        del replicas[arm.replicas :]
        if surplus:
            grace = arm.serving.traffic.timeout.seconds
            threading.Thread(target=self._drop, args=(key, name, surplus, grace), daemon=True).start()
        while len(replicas) < arm.replicas:
            work = self._work(key, name) / str(time.time_ns())
            replica = Replica(
                f"{key}/{name}",
                fetch=lambda: self._archive(arm),
                launch=lambda archive, work=work: self._launch(archive, arm, work),  # type: ignore[misc]
                changed=lambda: self._publish(key, name),
            )
            replicas.append(replica)
            replica.start()

    def _publish(self, key: str, name: str) -> None:
        with self._lock:
            ports = [replica.port for replica in self._replicas.get((key, name), ()) if replica.port is not None]
            self._router.set_endpoints(key, name, ports)
        self.changed(key)

    def _drop(self, key: str, name: str, surplus: list[Replica], grace: float) -> None:
        """Take servers out of the router, wait until Envoy has seen it, and stop them when they are done."""
        ports = {replica.port for replica in surplus if replica.port is not None}
        for replica in surplus:
            replica.withdraw()
        self._publish(key, name)
        try:
            wait_until(lambda: self._let_go(key, name, ports), deadline_s=_APPLIED_S, what="the router")
        except Unavailable as error:
            log.warning("the router did not say that it let servers go", arm=name, error=str(error))
        _stop_all(surplus, grace=grace)

    def _let_go(self, key: str, name: str, ports: set[int]) -> bool:
        """Whether Envoy says that it sends nothing more to these ports."""
        try:
            return not ports & self._router.ports(key, name)
        except Unavailable:
            return False

    def _leave(self, key: str, name: str) -> None:
        threading.Thread(target=self._drain, args=(key, name), name=f"drain {name}", daemon=True).start()

    def _drain(self, key: str, name: str) -> None:
        arm = self._asked.arms[key][name].arm
        patience = arm.serving.traffic.timeout.seconds
        try:
            wait_until(lambda: self._drained(key, name), deadline_s=patience + 5, what=f"the drain of {name}")
        except Unavailable as error:
            log.warning("an arm did not drain in time", arm=name, error=str(error))
        with self._lock:
            wanted = self._asked.arms.get(key, {}).get(name)
            if wanted is None or not wanted.retiring or self._stopping or (key, name) in self._leaving:
                return  # wanted again in the meantime, or another drain was faster
            self._leaving.add((key, name))
            replicas = self._replicas.pop((key, name), [])
        self._drop(key, name, replicas, patience)
        with self._lock:
            self._router.remove_arm(key, name)
            self._keep(key, name, None)
            self._leaving.discard((key, name))
        shutil.rmtree(self._work(key, name), ignore_errors=True)
        log.info("an arm is gone", arm=name)
        self.changed(key)

    def _drained(self, key: str, name: str) -> bool:
        """Whether nothing is in flight, the router sends nothing new, and its count stands still."""
        try:
            weights = self._router.weights(key)
            before = self._router.load(key, name)
            if weights.confirmed is None or name in weights.confirmed or (before and before.active):
                return False
            time.sleep(_STILL_S)
            return before == self._router.load(key, name)
        except Unavailable:
            return False

    def _loads(self, key: str) -> dict[str, int]:
        try:
            return {name: load.active for name, load in self._router.loads(key).items()}
        except Unavailable:
            return {}

    def _work(self, key: str, name: str) -> Path:
        return self._home.arms / key.replace("/", "~") / name

    def _archive(self, arm: EnsureArm) -> Path:
        """The arm's archive, its digest verified; fetched once for all replicas.

        Raises:
            NoArchive: the registry has no such version, or it has no archive.
            Tampered: its bytes differ from the digest.
            Unavailable: the registry is away.
        """
        kept = self._home.archives / f"{arm.digest.removeprefix('sha256:')}.mar"
        with self._fetching:
            if kept.is_file() and digest_file(kept) != arm.digest:
                kept.unlink()
            if not kept.is_file():
                self._fetch(arm).replace(kept)
            return kept

    def _fetch(self, arm: EnsureArm) -> Path:
        versions = self._registry.versions(arm.serving.model.name)
        version = next((one for one in versions if one.version == arm.version), None)
        if version is None:
            raise NoArchive(f"version {arm.version} of {arm.serving.model.name} is gone", do="promote another one")
        try:
            return self._registry.fetch(replace(version, digest=arm.digest), self._home.archives)
        except BadInput as error:
            raise NoArchive(error.what, do=error.do) from None


def _stop_all(replicas: list[Replica], *, grace: float) -> None:
    """Stop them at the same time."""
    threads = [threading.Thread(target=replica.stop, args=(grace,), daemon=True) for replica in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
