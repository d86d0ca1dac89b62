"""The Kubernetes API over the wire. The one home of the vendor's client, which gives credentials, TLS and connections.

Paths come from `Kind`, so nothing is discovered at the start, and a kind that is not installed says so when it is used.
Every write is strict: a field that the server does not know is refused, not dropped.
"""

import json
import os
import ssl
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from urllib3.exceptions import HTTPError

from modelyard.errors import BadInput, Conflict, Expired, Refused, Unavailable
from modelyard.kube.answers import NotFound, meaning
from modelyard.kube.metadata import name_of, namespace_of
from modelyard.kube.port import POD, Change, Kind, Labels, Listing, Object, Subresource, kind_of
from modelyard.kube.wire import Answer, Wire

PAGE: Final = 500
"""Objects that one answer of a list holds, as `kubectl` asks for them."""
CONNECTIONS: Final = 64
"""Kept open; each watch holds one."""
SILENCE_S: Final = 5.0
"""How much longer than its deadline a watch may be silent before its connection counts as dead."""
JSON: Final = "application/json"
APPLY: Final = "application/apply-patch+yaml"
"""JSON is YAML."""


def connect(kubeconfig: Path | None = None, *, context: str | None = None, timeout_s: float = 10.0) -> "KubeClient":
    """Connect by this kubeconfig; without one, as the pod that this runs in, or by `KUBECONFIG` or `~/.kube/config`.

    Args:
        kubeconfig: a file.
        context: of a kubeconfig; its current one when absent.
        timeout_s: of each request.

    Raises:
        BadInput: there is no such file or context, or it names no cluster.
    """
    settings = Configuration()
    try:
        if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=settings)
        else:
            config.load_kube_config(config_file=_file(kubeconfig), context=context, client_configuration=settings)
    except (config.ConfigException, OSError) as error:
        raise BadInput(f"no Kubernetes cluster is configured ({error})", do="name a kubeconfig in KUBECONFIG") from None
    settings.connection_pool_maxsize = CONNECTIONS
    return KubeClient(ApiClient(settings), timeout_s=timeout_s)


def namespace_of_context(context: str | None = None) -> str:
    """The namespace that kubectl would use: the context's own, else `default`.

    Raises:
        BadInput: there is no kubeconfig, or no such context.
    """
    try:
        contexts, current = config.list_kube_config_contexts(_file(None))
    except (config.ConfigException, OSError) as error:
        raise BadInput(f"no Kubernetes cluster is configured ({error})", do="name a kubeconfig in KUBECONFIG") from None
    found = current if context is None else next((each for each in contexts if each["name"] == context), None)
    if found is None:
        known = ", ".join(sorted(each["name"] for each in contexts)) or "none"
        raise BadInput(f"there is no context {context} (there are: {known})", do="name one of these")
    return str(found["context"].get("namespace", "default"))


def _file(kubeconfig: Path | None) -> str | None:
    """The file, where one is named; `KUBECONFIG` is read now, not when the vendor's package was imported."""
    return os.environ.get("KUBECONFIG") if kubeconfig is None else str(kubeconfig)


class KubeClient:
    """The `Kube` port. `timeout_s` bounds each request but a watch."""

    def __init__(self, api: ApiClient, *, timeout_s: float) -> None:
        self._api = api
        self._timeout_s = timeout_s
        self._wire = _wire(api, timeout_s)

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """See the port."""
        try:
            return self._asked("GET", kind, namespace, name)
        except NotFound:
            return None

    def list(self, kind: Kind, *, namespace: str = "", labels: Labels = None) -> Listing:
        """See the port."""
        try:
            return self._listed(kind, namespace, labels, limit=PAGE)
        except Expired:  # the snapshot that the pages were cut from is gone: all in one
            return self._listed(kind, namespace, labels, limit=0)

    def _listed(self, kind: Kind, namespace: str, labels: Labels, *, limit: int) -> Listing:
        found: list[Object] = []
        query = _selected(labels) | ({"limit": str(limit)} if limit else {})
        while True:
            page = self._asked("GET", kind, namespace, "", query=query)
            found += [_named(kind, each) for each in page["items"]]
            if not page["metadata"].get("continue"):
                return Listing(tuple(found), page["metadata"]["resourceVersion"])
            query["continue"] = page["metadata"]["continue"]

    def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        deadline_s: float,
        namespace: str = "",
        labels: Labels = None,
    ) -> Iterator[Change]:
        """See the port. The connection is open when this returns."""
        query = _selected(labels) | {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(deadline_s))),
        }
        answer = self._request("GET", kind, namespace, "", query=query, silence_s=deadline_s + SILENCE_S)
        return _changes(answer, kind)

    def create(self, thing: Object, *, manager: str) -> Object:
        """See the port."""
        query = {"fieldManager": manager, "fieldValidation": "Strict"}
        try:
            return self._asked("POST", kind_of(thing), namespace_of(thing), "", query=query, body=thing)
        except NotFound as error:
            raise Refused(error.what, do="make the namespace first") from None

    def apply(self, thing: Object, *, manager: str, force: bool = False, subresource: Subresource = "") -> Object:
        """See the port."""
        query = {"fieldManager": manager, "fieldValidation": "Strict", "force": str(force).lower()}
        return self._written("PATCH", thing, subresource, query, content_type=APPLY)

    def replace(self, thing: Object, *, manager: str, subresource: Subresource = "") -> Object:
        """See the port."""
        return self._written("PUT", thing, subresource, {"fieldManager": manager, "fieldValidation": "Strict"})

    def _written(
        self, method: str, thing: Object, subresource: str, query: dict[str, str], *, content_type: str = JSON
    ) -> Object:
        kind, name = kind_of(thing), name_of(thing)
        try:
            return self._asked(
                method, kind, namespace_of(thing), name, subresource, query=query, body=thing, content_type=content_type
            )
        except NotFound as error:
            if error.kind == "namespaces":
                raise Refused(error.what, do="make the namespace first") from None
            raise Conflict(f"{error.what}: it is gone", do="look again") from None

    def delete(
        self, kind: Kind, namespace: str, name: str, *, resource_version: str | None = None, uid: str | None = None
    ) -> None:
        """See the port."""
        at = {"resourceVersion": resource_version, "uid": uid}
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {field: value for field, value in at.items() if value},
        }
        try:
            self._asked("DELETE", kind, namespace, name, body=body)
        except NotFound:
            return

    def log(
        self, namespace: str, pod: str, *, container: str, since: str = "", deadline_s: float = 0.0
    ) -> Iterator[str] | None:
        """See the port."""
        query = {"container": container, "timestamps": "true"}
        if since:
            query["sinceTime"] = f"{since[:19]}Z"  # the API knows whole seconds only
        if deadline_s:
            query["follow"] = "true"
        try:
            answer = self._request(
                "GET", POD, namespace, pod, "log", query=query, silence_s=deadline_s or self._timeout_s
            )
        except (NotFound, Refused):  # gone; not begun ("is waiting to start", "does not have a host assigned")
            return None
        return _lines(answer, whole=not deadline_s)

    def close(self) -> None:
        """Close the connections that no watch holds."""
        self._api.rest_client.pool_manager.clear()
        if self._wire is not None:
            self._wire.close()

    def _asked(
        self,
        method: str,
        kind: Kind,
        namespace: str,
        name: str,
        subresource: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = JSON,
    ) -> dict[str, Any]:
        """Ask, and read the whole answer."""
        headers, path = self._headers(content_type), _path(kind, namespace, name, subresource, query)
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        with _away(kind):
            answer = self._answer(method, path, headers, data)
        if answer.status >= 400:
            raise meaning(answer.status, answer.data, kind, name, retry_after=answer.retry_after)
        return _named(kind, json.loads(answer.data))

    def _answer(self, method: str, path: str, headers: Mapping[str, str], data: bytes | None) -> Answer:
        if self._wire is not None:
            return self._wire.ask(method, path, headers=headers, body=data)
        got = self._sent(method, path, headers, data, silence_s=self._timeout_s)
        return Answer(got.status, got.data, got.headers.get("Retry-After", ""))

    def _request(
        self,
        method: str,
        kind: Kind,
        namespace: str,
        name: str,
        subresource: str = "",
        *,
        query: Mapping[str, str],
        silence_s: float,
    ) -> urllib3.BaseHTTPResponse:
        """Ask for what comes bit by bit."""
        with _away(kind):
            path = _path(kind, namespace, name, subresource, query)
            answer = self._sent(method, path, self._headers(JSON), None, silence_s=silence_s)
            if answer.status < 400:
                return answer
            raise meaning(answer.status, answer.data, kind, name, retry_after=answer.headers.get("Retry-After", ""))

    def _sent(
        self, method: str, path: str, headers: Mapping[str, str], data: bytes | None, *, silence_s: float
    ) -> urllib3.BaseHTTPResponse:
        answer: urllib3.BaseHTTPResponse = self._api.rest_client.pool_manager.request(
            method,
            self._api.configuration.host + path,
            body=data,
            headers=headers,
            timeout=urllib3.Timeout(connect=self._timeout_s, read=silence_s),
            preload_content=False,
            redirect=False,
            retries=False,
        )
        return answer

    def _headers(self, content_type: str) -> dict[str, str]:
        headers = {"Accept": JSON, "User-Agent": "modelyard", "Content-Type": content_type}
        self._api.update_params_for_auth(headers, [], ["BearerToken"])
        return headers


def _wire(api: ApiClient, timeout_s: float) -> Wire | None:
    """The short way; None where the server's certificate is to have another name than its address."""
    said = api.rest_client.pool_manager.connection_pool_kw
    if said.get("server_hostname") or said.get("assert_hostname") is not None:
        return None
    tls = None
    if api.configuration.host.startswith("https"):
        tls = ssl.create_default_context(cafile=said["ca_certs"])
        if said["cert_reqs"] == ssl.CERT_NONE:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        if said["cert_file"]:
            tls.load_cert_chain(said["cert_file"], said["key_file"])
    return Wire(api.configuration.host, tls=tls, timeout_s=timeout_s, kept=CONNECTIONS)


class _away:  # noqa: N801  a context manager, used like a function
    """What the wire throws becomes Unavailable."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if isinstance(error, HTTPError | HTTPException | OSError):
            told = f"the Kubernetes API does not answer about {self.kind.plural} ({error})"
            raise Unavailable(told, do="it is asked again") from None


def _changes(answer: urllib3.BaseHTTPResponse, kind: Kind) -> Iterator[Change]:
    """Each line of a watch's answer is an event."""
    try:
        with _away(kind):
            rest = b""
            for chunk in answer.stream(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield _change(json.loads(line), kind)
    finally:
        answer.close()


def _lines(answer: urllib3.BaseHTTPResponse, *, whole: bool) -> Iterator[str]:
    """Each line of a log. A last one without its end belongs to a log that is `whole`; else it is read again."""
    try:
        with _away(POD):
            rest = b""
            for chunk in answer.stream(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")
            if whole and rest:
                yield rest.decode(errors="replace")
    except Unavailable:  # silent for too long, or broken off: whoever wants more asks again
        if whole:
            raise
    finally:
        answer.close()


def _change(event: Mapping[str, Any], kind: Kind) -> Change:
    if event["type"] == "ERROR":
        status = event["object"]
        raise meaning(int(status.get("code", 500)), json.dumps(status).encode(), kind)
    return Change(event["type"], _named(kind, event["object"]))


def _path(kind: Kind, namespace: str, name: str, subresource: str, query: Mapping[str, str] | None) -> str:
    root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.api_version}"
    within = ("namespaces", quote(namespace, safe="")) if kind.namespaced and namespace else ()
    path = "/".join((root, *within, kind.plural, *(part for part in (quote(name, safe=""), subresource) if part)))
    return f"{path}?{urlencode(query)}" if query else path


def _selected(labels: Labels) -> dict[str, str]:
    each = (name if value is None else f"{name}={value}" for name, value in (labels or {}).items())
    return {"labelSelector": ",".join(each)} if labels else {}


def _named(kind: Kind, thing: dict[str, Any]) -> dict[str, Any]:
    """Items of lists come without their kind; nobody needs the fields' owners, which are half of an object's size."""
    thing.get("metadata", {}).pop("managedFields", None)
    return {"apiVersion": kind.api_version, "kind": kind.kind} | thing
