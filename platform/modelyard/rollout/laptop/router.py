"""Envoy as the `Router` of the loop, and for the arms: where each one's servers listen.

What was asked stands in `state.json`, so that a restarted yard routes as before. What Envoy does is read from
Envoy: a weight is believed when its own configuration shows it, never because a file was written.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from modelyard.errors import BadInput, Conflict, Unavailable
from modelyard.processes import wait_until
from modelyard.record import record
from modelyard.rollout.laptop.envoy import Envoy
from modelyard.rollout.laptop.listening import LOOPBACK, is_free, kept_port
from modelyard.rollout.laptop.routes import (
    Limits,
    Route,
    cluster_name,
    clusters,
    endpoints,
    endpoints_file,
    listeners,
    paths,
    route_configuration,
)
from modelyard.rollout.observation import Weights
from modelyard.spec.codec import from_json, to_json
from modelyard.spec.deployment import DeploymentSpec, Traffic
from modelyard.storage.atomic import write_text

_CONFIRM_S = 5.0


@record
class Asked:
    """What the router was asked to do: `state.json`."""

    routes: Mapping[str, Route] = field(default_factory=dict)
    changes: int = 0
    """Changes of weights so far: where resource versions come from, so that none comes twice."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """Key → resource version of its weights."""


@record
class Load:
    """What an arm is doing."""

    active: int
    """Requests that it is still answering."""
    total: int
    """Attempts that it was ever sent: it stands still once an arm is drained."""


class EnvoyRouter:
    """`Router`, by the files that Envoy watches."""

    def __init__(self, folder: Path, *, log: Path, limits: Limits | None = None) -> None:
        self._folder = folder.resolve()
        self._log = log
        self._limits = limits or Limits()
        self._lock = threading.RLock()
        self._asked = _load(self._folder / "state.json")
        self._endpoints: dict[str, tuple[int, ...]] = {}
        self._written: dict[str, str] = {}
        self._envoy: Envoy | None = None
        self._port = 0
        self.changed: Callable[[str], None] = lambda key: None  # noqa: ARG005
        """Told the key of a deployment when weights that were asked for are in force."""

    def start(self) -> None:
        """Start Envoy, or start it anew when it died; nothing when it runs.

        Raises:
            Unavailable: it did not come up, or cannot have its port.
        """
        with self._lock:
            if self._envoy is not None and self._envoy.alive():
                return
            if self._envoy is not None:
                self._envoy.stop(grace=0.0)
                self._envoy = None
            self._port = kept_port(self._folder / "port")
            self._publish(self._asked.routes.values())
            envoy = Envoy.start(self._folder, log=self._log, limits=self._limits)
            try:
                wait_until(
                    lambda: self._port in _listening(envoy),
                    deadline_s=_CONFIRM_S,
                    what=f"port {self._port}",
                )
            except Unavailable:
                envoy.stop(grace=0.5)
                raise
            self._envoy = envoy

    def stop(self) -> None:
        """End Envoy; what was asked stays on disk."""
        with self._lock:
            if self._envoy is not None:
                self._envoy.stop()
                self._envoy = None

    @property
    def url(self) -> str:
        """Where all models answer."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def admin(self) -> str:
        """Envoy's own pages."""
        return self.envoy.admin

    @property
    def envoy(self) -> Envoy:
        """The process.

        Raises:
            Unavailable: it does not run.
        """
        envoy = self._envoy
        if envoy is None:
            raise Unavailable("the router does not run", do="start it with `modelyard up`")
        return envoy

    # The port of the loop.

    def weights(self, key: str) -> Weights:
        """What was asked, and what Envoy says it does: None when Envoy cannot be read."""
        with self._lock:
            route = self._asked.routes.get(key)
            asked = dict(route.weights) if route else {}
            version = self._version(key)
        try:
            return Weights(asked=asked, confirmed=self._confirmed(key), resource_version=version)
        except Unavailable:
            return Weights(asked=asked, confirmed=None, resource_version=version)

    def set_weights(self, key: str, weights: Mapping[str, int], *, expected: str) -> None:
        """Ask for these shares; an empty mapping takes the model off the air.

        Raises:
            Conflict: the weights are not at resource version `expected` any more.
            BadInput: they are no whole percents that sum to 100, or an arm is unknown.
        """
        with self._lock:
            if (now := self._version(key)) != expected:
                raise Conflict(f"weights of {key} are at version {now!r}, not {expected!r}", do="look again")
            route = self._asked.routes.get(key)
            known = route.arms if route else {}
            if unknown := sorted(set(weights) - set(known)):
                raise BadInput(f"{key} has no arm {unknown[0]!r}", do=f"use one of {sorted(known)}, or ensure it first")
            if weights and (sum(weights.values()) != 100 or min(weights.values()) < 0):
                raise BadInput(f"weights {dict(weights)} are no shares", do="give whole percents that sum to 100")
            if route is None or dict(route.weights) == dict(weights):
                return
            changes = self._asked.changes + 1
            self._change(
                routes={**self._asked.routes, key: replace(route, weights=dict(weights))},
                changes=changes,
                versions={**self._asked.versions, key: changes},
            )
            self._publish(self._asked.routes.values())
        threading.Thread(target=self._tell, args=(key, dict(weights)), daemon=True).start()

    # For the arms.

    def put_arm(self, key: str, arm: str, version: str, serving: DeploymentSpec) -> None:
        """Make an arm known; it gets no traffic before a weight says so.

        The first arm brings its deployment's traffic settings; later `follow` keeps them as they are wished.

        Raises:
            BadInput: another deployment serves a model of this name, the wished port is taken, or there is no sense
                in the traffic settings.
        """
        _check(serving.traffic)
        with self._lock:
            before = self._asked.routes.get(key)
            route = before or _with(Route(key=key, model=serving.model.name), serving.traffic)
            self._replace(before, replace(route, model=serving.model.name, arms={**route.arms, arm: version}))

    def follow(self, key: str, traffic: Traffic) -> None:
        """Let a deployment's traffic settings be those; nothing while it has no arm.

        Raises:
            BadInput: the wished port is taken, or there is no sense in them.
            Unavailable: Envoy cannot be read.
        """
        with self._lock:
            route = self._asked.routes.get(key)
            if route is None:
                return
            self._replace(route, _with(route, traffic))
            port = traffic.port
            if port is not None and port == route.port and port not in _listening(self.envoy) and not is_free(port):
                raise _taken(port)  # while Envoy was away

    def _replace(self, before: Route | None, after: Route) -> None:
        if after == before:
            return
        self._refuse_clash(before, after)
        self._put(after)
        self._publish(self._asked.routes.values())

    def set_endpoints(self, key: str, arm: str, ports: Iterable[int]) -> None:
        """Let exactly these servers answer for an arm."""
        with self._lock:
            name = cluster_name(key, arm)
            self._endpoints[name] = tuple(sorted(ports))
            self._write(endpoints_file(name), endpoints(name, self._endpoints[name]))

    def remove_arm(self, key: str, arm: str) -> None:
        """Forget an arm; nothing when it is unknown.

        Raises:
            Conflict: the weights name it.
        """
        with self._lock:
            route = self._asked.routes.get(key)
            if route is None or arm not in route.arms:
                return
            if arm in route.weights:
                raise Conflict(
                    f"the route of {key} names {arm} ({route.weights[arm]} %)", do="take it out of the weights first"
                )
            left = {name: version for name, version in route.arms.items() if name != arm}
            others = {other: one for other, one in self._asked.routes.items() if other != key}
            # The last arm takes its deployment's paths and port with it.
            self._change(routes={**others, key: replace(route, arms=left)} if left else others)
            self._publish(self._asked.routes.values())
            name = cluster_name(key, arm)
            self._endpoints.pop(name, None)
            self._written.pop(endpoints_file(name), None)
            (self._folder / endpoints_file(name)).unlink(missing_ok=True)

    def load(self, key: str, arm: str) -> Load | None:
        """What an arm is doing; None when Envoy does not know it.

        Raises:
            Unavailable: Envoy cannot be read.
        """
        return self.loads(key).get(arm)

    def loads(self, key: str) -> dict[str, Load]:
        """What each arm of a deployment is doing, as far as Envoy knows it.

        Raises:
            Unavailable: Envoy cannot be read.
        """
        prefix, active, total = f"cluster.{key}/", ".upstream_rq_active", ".upstream_rq_total"
        pattern = rf"^{_literal(prefix)}[^/]*\.upstream_rq_(active|total)$"
        found = self.envoy.read("/stats", format="json", filter=pattern, type="All")["stats"]
        values = {item["name"]: int(item["value"]) for item in found if "value" in item}
        arms = [name.removeprefix(prefix).removesuffix(active) for name in values if name.endswith(active)]
        return {arm: Load(active=values[prefix + arm + active], total=values[prefix + arm + total]) for arm in arms}

    def ports(self, key: str, arm: str) -> set[int]:
        """Where Envoy finds the servers of an arm now.

        Raises:
            Unavailable: Envoy cannot be read.
        """
        found = self.envoy.read("/clusters", format="json").get("cluster_statuses", [])
        name = cluster_name(key, arm)
        hosts = [host for cluster in found if cluster["name"] == name for host in cluster.get("host_statuses", [])]
        return {host["address"]["socket_address"]["port_value"] for host in hosts}

    def _tell(self, key: str, weights: dict[str, int]) -> None:
        """Say when these weights are in force, so that nobody has to wait for the next look."""
        with contextlib.suppress(Unavailable):
            wait_until(lambda: self._confirmed(key) == weights, deadline_s=_CONFIRM_S, what="the weights")
            self.changed(key)

    def _version(self, key: str) -> str:
        return str(self._asked.versions.get(key, ""))

    def _confirmed(self, key: str) -> dict[str, int]:
        dump = self.envoy.read("/config_dump", resource="dynamic_route_configs")
        prefix = f"{key}/"
        for config in dump.get("configs", []):
            for host in config["route_config"].get("virtual_hosts", []):
                for entry in host.get("routes", []):
                    if entry.get("name") == key and "route" in entry:
                        shares = entry["route"]["weighted_clusters"]["clusters"]
                        return {share["name"].removeprefix(prefix): share.get("weight", 0) for share in shares}
        return {}

    def _refuse_clash(self, before: Route | None, after: Route) -> None:
        for other in self._asked.routes.values():
            if other.key != after.key and other.model == after.model:
                raise BadInput(
                    f"{other.key} already answers at {paths(other.model)[0]}",
                    do=f"remove that deployment or give {after.key}'s model another name",
                )
        taken = {self._port, *(r.port for r in self._asked.routes.values() if r.key != after.key)}
        port = after.port
        if port is None or (before is not None and port == before.port):
            return
        if port in taken or not is_free(port):
            raise _taken(port)

    def _put(self, route: Route) -> None:
        self._change(routes={**self._asked.routes, route.key: route})

    def _change(self, **changes: Any) -> None:
        self._asked = replace(self._asked, **changes)
        write_text(self._folder / "state.json", to_json(self._asked))

    def _publish(self, asked: Iterable[Route]) -> None:
        """Write what changed. A route names only arms that are known, so no order of files can break one."""
        routes = sorted(asked, key=lambda route: route.key)
        folder, names = str(self._folder), {cluster_name(route.key, arm) for route in routes for arm in route.arms}
        for name in names:
            self._write(endpoints_file(name), endpoints(name, self._endpoints.get(name, ())))
        self._write("clusters.json", clusters(folder, names))
        self._write("routes.json", route_configuration(routes, limits=self._limits))
        self._write("listeners.json", listeners(folder, self._port, routes, limits=self._limits))

    def _write(self, name: str, data: Any) -> None:
        text = json.dumps(data, indent=1, sort_keys=True)
        if self._written.get(name) != text:
            write_text(self._folder / name, text)  # a move: that is what Envoy watches for
            self._written[name] = text


def _taken(port: int) -> BadInput:
    told = f"traffic.port {port} is taken by another program"
    return BadInput(told, do="free it or leave `port` out: every model answers on the router's own port")


def _with(route: Route, traffic: Traffic) -> Route:
    """The route with these settings.

    Raises:
        BadInput: there is no sense in them.
    """
    _check(traffic)
    return replace(route, timeout_s=traffic.timeout.seconds, retries=traffic.retries, port=traffic.port)


def _check(traffic: Traffic) -> None:
    """Refuse what Envoy would take for "no limit", or not take at all and go on with what it had."""
    if traffic.timeout.seconds < 0.001:
        raise BadInput(f"traffic.timeout {traffic.timeout} is no time", do="write a length of time, like 15s")
    if not 0 <= traffic.retries <= 10:
        raise BadInput(f"traffic.retries is {traffic.retries}", do="write a number from 0 to 10")
    if traffic.port is not None and not 1 <= traffic.port <= 65535:
        raise BadInput(f"traffic.port {traffic.port} is no port", do="write a number from 1 to 65535, or leave it out")


def _listening(envoy: Envoy) -> set[int]:
    statuses = envoy.read("/listeners", format="json").get("listener_statuses", [])
    return {status["local_address"]["socket_address"]["port_value"] for status in statuses}


def _literal(text: str) -> str:
    """`text` as a pattern that matches only itself; RE2 refuses some escapes that `re.escape` makes."""
    return "".join(letter if letter.isalnum() or letter in "-_/" else f"\\{letter}" for letter in text)


def _load(path: Path) -> Asked:
    return from_json(Asked, path.read_bytes(), where=str(path)) if path.exists() else Asked()
