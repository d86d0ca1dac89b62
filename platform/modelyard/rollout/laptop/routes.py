"""What the router is asked to do, rendered as Envoy's configuration: pure, from records to plain data.

Envoy reads files that are replaced whole (xDS over the file system): listeners, routes, clusters, and the
endpoints of each arm. So arms, endpoints and weights change without a restart and without losing a request.

Names: an arm of a deployment is the cluster `namespace/deployment/arm`, so its statistics tell it apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from modelyard.record import record
from modelyard.rollout.laptop.listening import LOOPBACK

MODELS = "models"
"""Name of the one route configuration that all listeners share."""

MOST_NAMED = 20
"""Models that an answer for a wrong path names."""

_TYPE = "type.googleapis.com/envoy."
_NEVER = "modelyard.none"  # filters want the key of a runtime override; we set none


@record
class Limits:
    """What one client may take from the router."""

    request_bytes: int = 16 * 1024 * 1024
    """Beyond it: 413. TorchServe as we start it takes as much."""
    request_s: float = 15.0
    """Until a request was sent to its end; then 408. It reaches a server only when it is whole."""
    idle_s: float = 120.0
    """Until a connection without requests is closed."""
    connections: int = 4096


@record
class Route:
    """One deployment at the router."""

    key: str
    model: str
    timeout_s: float = 15.0
    """For a request with all its attempts; each attempt may take an equal part of it."""
    retries: int = 1
    port: int | None = None
    """A port of its own, beside the one that all share."""
    arms: Mapping[str, str] = field(default_factory=dict)
    """Arm → version."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """Whole percents by arm; empty while nothing is live."""


def cluster_name(key: str, arm: str) -> str:
    """The name of an arm in Envoy."""
    return f"{key}/{arm}"


def paths(model: str) -> tuple[str, str]:
    """The paths at which a model answers."""
    return f"/v1/models/{model}:predict", f"/predictions/{model}"


def bootstrap(folder: str, *, admin_port: int, limits: Limits) -> dict[str, Any]:
    """What Envoy is started with; all else comes from files in `folder`."""

    def source(name: str) -> dict[str, Any]:
        return {"resource_api_version": "V3", "path_config_source": {"path": f"{folder}/{name}.json"}}

    return {
        "node": {"id": "modelyard", "cluster": "laptop"},
        "admin": {
            "address": _address(admin_port),
            # Any process of this machine can reach it: let it read, not stop or drain the router.
            "allow_paths": [
                {"prefix": path} for path in ("/stats", "/config_dump", "/listeners", "/clusters", "/ready")
            ],
        },
        "dynamic_resources": {"lds_config": source("listeners"), "cds_config": source("clusters")},
        # Histograms are merged at each flush: the loop looks every 0.5 s, and wants what happened before it.
        "stats_flush_interval": "0.25s",
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": _TYPE
                        + "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": limits.connections,
                    },
                }
            ]
        },
    }


def listeners(folder: str, shared_port: int, routes: Iterable[Route], *, limits: Limits) -> dict[str, Any]:
    """The shared listener, and one for each deployment that asks for a port of its own."""
    ports = {shared_port, *(route.port for route in routes if route.port is not None)}
    return _resources(
        "config.listener.v3.Listener",
        [
            {
                "name": f"port-{port}",
                "address": _address(port),
                "per_connection_buffer_limit_bytes": 1_048_576,
                "filter_chains": [{"filters": [_connection_manager(folder, limits)]}],
            }
            for port in sorted(ports)
        ],
    )


def route_configuration(routes: Iterable[Route], *, limits: Limits) -> dict[str, Any]:
    """All paths of all deployments. The first one of a model's name has its paths; see `Router.put_arm`."""
    known = tuple(routes)
    host = {
        "name": MODELS,
        "domains": ["*"],
        "routes": [*(entry for route in known for entry in _entries(route, limits)), _nowhere(known)],
    }
    return _resources("config.route.v3.RouteConfiguration", [{"name": MODELS, "virtual_hosts": [host]}])


def clusters(folder: str, names: Iterable[str]) -> dict[str, Any]:
    """A cluster for each arm; its endpoints stand in a file of their own."""
    return _resources("config.cluster.v3.Cluster", [_cluster(folder, name) for name in sorted(names)])


def endpoints(name: str, ports: Iterable[int]) -> dict[str, Any]:
    """The servers of one arm."""
    hosts = [{"endpoint": {"address": _address(port)}} for port in sorted(ports)]
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]}
    return _resources("config.endpoint.v3.ClusterLoadAssignment", [assignment])


def endpoints_file(name: str) -> str:
    """The file's name for `endpoints`, without its folder."""
    return "endpoints-" + name.replace("/", "~") + ".json"


def _entries(route: Route, limits: Limits) -> list[dict[str, Any]]:
    live = route.weights
    if not live:
        message = f"{route.model} has no live version yet: look at `modelyard status`"
        action = {"direct_response": {"status": 503, "body": {"inline_string": message}}}
    else:
        action = {"route": _action(route, live, limits)}
    only_post = {"direct_response": {"status": 405, "body": {"inline_string": "send a POST"}}}
    post = {"headers": [{"name": ":method", "string_match": {"exact": "POST"}}]}
    entries = []
    for path in paths(route.model):
        entries.append({"name": route.key, "match": {"path": path, **post}, **action})
        entries.append({"name": "other methods", "match": {"path": path}, **only_post})
    return entries


def _nowhere(known: Sequence[Route]) -> dict[str, Any]:
    """Every other path: says what there is."""
    models = sorted({route.model for route in known})[:MOST_NAMED]
    there = ", ".join(paths(name)[0] for name in models) or "none yet: modelyard run"
    body = {"inline_string": f"nothing is served at this path. Models here: {there}\n"}
    return {"name": "nowhere", "match": {"prefix": "/"}, "direct_response": {"status": 404, "body": body}}


def _action(route: Route, live: Mapping[str, int], limits: Limits) -> dict[str, Any]:
    return {
        "weighted_clusters": {
            "clusters": [
                {
                    "name": cluster_name(route.key, arm),
                    "weight": weight,
                    "response_headers_to_add": [
                        _header("x-modelyard-arm", arm),
                        _header("x-modelyard-version", route.arms[arm]),
                    ],
                }
                for arm, weight in sorted(live.items())
            ]
        },
        "prefix_rewrite": f"/predictions/{route.model}",
        "timeout": _seconds(route.timeout_s),
        # One arm is drawn for a request, and all its attempts stay there. A prediction may be repeated.
        "retry_policy": {
            "retry_on": "5xx,reset,connect-failure,refused-stream",
            "num_retries": route.retries,
            "per_try_timeout": _seconds(route.timeout_s / (route.retries + 1)),
            "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {"@type": _TYPE + "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
                }
            ],
            "host_selection_retry_max_attempts": "10",
        },
        "request_body_buffer_limit": str(limits.request_bytes),
    }


def _connection_manager(folder: str, limits: Limits) -> dict[str, Any]:
    kind = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": _TYPE + kind,
            "stat_prefix": MODELS,
            "server_name": "modelyard",
            "rds": {
                "route_config_name": MODELS,
                "config_source": {
                    "resource_api_version": "V3",
                    "path_config_source": {"path": f"{folder}/routes.json"},
                },
            },
            "request_timeout": _seconds(limits.request_s),
            "request_headers_timeout": _seconds(limits.request_s),
            "common_http_protocol_options": {"idle_timeout": _seconds(limits.idle_s)},
            "local_reply_config": {
                "body_format": {"json_format": {"code": "%RESPONSE_CODE%", "error": "%LOCAL_REPLY_BODY%"}}
            },
            "http_filters": [
                # A server gets a request only when it is whole: a slow client holds nothing but memory here.
                _filter("buffer", "buffer.v3.Buffer", max_request_bytes=limits.request_bytes),
                _filter("router", "router.v3.Router", upstream_log=_attempt_logs(), suppress_envoy_headers=True),
            ],
        },
    }


def _attempt_logs() -> list[dict[str, Any]]:
    """Statistics of attempts, not of requests: a retry that saved the client still counts.

    `upstream_rq_time` is in whole milliseconds; these are microseconds.
    """
    arm = {"name": "arm", "value_format": "%UPSTREAM_CLUSTER%"}
    code = {"name": "code", "value_format": "%RESPONSE_CODE%"}
    flags = {"name": "flags", "value_format": "%RESPONSE_FLAGS%"}
    ended = {"stat": {"name": "ended", "tags": [arm, code, flags]}, "value_fixed": 1}
    time = {
        "stat": {"name": "time", "tags": [arm]},
        "unit": "Microseconds",
        "value_format": "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%",
    }
    label = {"name": "class", "value_format": "%RESP(X-MODELYARD-CLASS)%"}
    predicted = {"stat": {"name": "predicted", "tags": [arm, label]}, "value_fixed": 1}
    answered = {"and_filter": {"filters": [_status("GE", 200), _status("LE", 499)]}}
    return [_stats_log(counters=[ended, predicted]), {**_stats_log(histograms=[time]), "filter": answered}]


def _stats_log(**stats: Any) -> dict[str, Any]:
    kind = _TYPE + "extensions.access_loggers.stats.v3.Config"
    return {
        "name": "envoy.access_loggers.stats",
        "typed_config": {"@type": kind, "stats_scope": {"prefix": "attempts"}, **stats},
    }


def _status(op: str, value: int) -> dict[str, Any]:
    return {"status_code_filter": {"comparison": {"op": op, "value": {"default_value": value, "runtime_key": _NEVER}}}}


def _cluster(folder: str, name: str) -> dict[str, Any]:
    plenty = 4096  # the default allows three retries at once: the fourth client would see the failure
    return {
        "name": name,
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": {
            "eds_config": {
                "resource_api_version": "V3",
                "path_config_source": {"path": f"{folder}/{endpoints_file(name)}"},
            }
        },
        # In turn: by fewest requests, a server that refuses at once would look idle and be drawn again by the retry.
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": plenty,
                    "max_pending_requests": plenty,
                    "max_requests": plenty,
                    "max_retries": plenty,
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {}},
                "common_http_protocol_options": {"idle_timeout": "30s"},
            }
        },
    }


def _resources(kind: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"resources": [{"@type": _TYPE + kind, **item} for item in items]}


def _filter(name: str, kind: str, **settings: Any) -> dict[str, Any]:
    return {
        "name": f"envoy.filters.http.{name}",
        "typed_config": {"@type": f"{_TYPE}extensions.filters.http.{kind}", **settings},
    }


def _header(key: str, value: str) -> dict[str, Any]:
    # Envoy reads % as the start of a command.
    return {
        "header": {"key": key, "value": value.replace("%", "%%")},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _seconds(value: float) -> str:
    return f"{value:.3f}s"
