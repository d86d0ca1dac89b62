"""The registry over MLflow's REST API, for the operator: what a rollout asks, in megabytes instead of hundreds.

https://mlflow.org/docs/latest/api_reference/rest-api.html. One request takes at most `TIMEOUT_S`, and nothing is
tried twice here: whoever asks knows when to ask again.
"""

import threading
from collections.abc import Mapping
from typing import Any, Literal

import httpx

from modelyard.errors import BadInput, StageFailed, Unavailable
from modelyard.record import record
from modelyard.registry.answers import AWAY, UNKNOWN, dangling, no_alias, served, version_of
from modelyard.registry.names import check_alias, check_model
from modelyard.registry.port import AliasMoved, Version
from modelyard.verdict import Verdict

TIMEOUT_S = 5.0
PAGE = 1000
"""The largest that MLflow gives of registered models."""
PAGES = 1000


@record
class Credentials:
    """User and password, or a token, or nothing. Never shown."""

    username: str = ""
    password: str = ""
    token: str = ""

    def __repr__(self) -> str:
        """Nothing that a log may not hold."""
        return "Credentials(…)"


class RestRegistry:
    """`modelyard.registry.port.Followed` at a tracking server's address, and all its aliases at once."""

    def __init__(self, uri: str, *, workspace: str = "", credentials: Credentials | None = None) -> None:
        known = credentials or Credentials()
        self.uri = uri.rstrip("/")
        headers = {"X-MLFLOW-WORKSPACE": workspace} if workspace else {}
        if known.token:
            headers["Authorization"] = f"Bearer {known.token}"
        basic = (known.username, known.password) if known.username and not known.token else None
        self._client = httpx.Client(base_url=f"{self.uri}/api/2.0/mlflow", headers=headers, auth=basic,
                                    timeout=TIMEOUT_S)  # fmt: skip
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()

    def aliases(self) -> Mapping[str, Mapping[str, str]]:
        """All models, each with its aliases and the versions that they name: one request for a thousand models.

        Raises:
            Unavailable: the registry is away.
        """
        found: dict[str, Mapping[str, str]] = {}
        token = ""
        for _ in range(PAGES):
            page = self._ask("GET", "registered-models/search", max_results=PAGE, page_token=token)
            for model in page.get("registered_models", ()):
                found[model["name"]] = {each["alias"]: str(each["version"]) for each in model.get("aliases", ())}
            token = page.get("next_page_token") or ""
            if not token:
                return found
        raise StageFailed(f"MLflow at {self.uri} gave {PAGES} pages of models and no end", do="see the server's log")

    def version(self, model: str, number: str) -> Version | None:
        """One version, or None where there is none of this number."""
        answer = self._known("GET", "model-versions/get", name=model, version=number)
        return None if answer is None else _version(answer["model_version"])

    def versions(self, model: str) -> tuple[Version, ...]:
        """All versions of a model, oldest first; empty when there is no such model."""
        check_model(model)
        found: list[Version] = []
        token = ""
        for _ in range(PAGES):
            page = self._ask(
                "GET", "model-versions/search", filter=f"name='{model}'", max_results=200, page_token=token
            )
            found += [_version(each) for each in page.get("model_versions", ())]
            token = page.get("next_page_token") or ""
            if not token:
                break
        return tuple(sorted(found, key=lambda each: int(each.version)))

    def resolve(self, model: str, alias: str) -> Version | Verdict:
        """What the alias names now, or why that is unknown; one request."""
        check_model(model)
        check_alias(alias)
        try:
            answer = self._ask("GET", "registered-models/alias", name=model, alias=alias)
        except _No as no:
            return dangling(model, alias) if "Model Version" in no.what else no_alias(model, alias)
        return served(_version(answer["model_version"]), alias)

    def move_alias(self, model: str, alias: str, version: str, *, expected: str | None) -> None:
        """Let the alias name `version`, if it names `expected` now. Looked at before and after.

        MLflow has no compare-and-swap: a person who moves it between the look before and the write is overruled,
        in a window of one request; who moves it after the write wins, and is reported.

        Raises:
            AliasMoved: it named something else just before, or names something else just after.
            BadInput: no such version.
        """
        check_model(model)
        check_alias(alias)
        with self._lock:
            if self.version(model, version) is None:
                raise BadInput(f"{model} has no version {version}", do="name one that is registered")
            now = self._named(model, alias)
            if now == version:
                return
            if now != expected:
                raise AliasMoved(alias, model, now=now, expected=expected)
            self._ask("POST", "registered-models/alias", name=model, alias=alias, version=version)
            after = self._named(model, alias)
            if after != version:
                raise AliasMoved(alias, model, now=after, expected=version)

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Add or overwrite tags of a version; what is already so is not written."""
        check_model(model)
        there = self.version(model, version)
        if there is None:
            raise BadInput(f"{model} has no version {version}", do="name one that is registered")
        for key, value in tags.items():
            if there.tags.get(key) != value:
                self._ask("POST", "model-versions/set-tag", name=model, version=version, key=key, value=value)

    def _named(self, model: str, alias: str) -> str | None:
        answer = self._known("GET", "registered-models/alias", name=model, alias=alias)
        return None if answer is None else str(answer["model_version"]["version"])

    def _known(self, method: Literal["GET", "POST"], path: str, **given: Any) -> Any:
        try:
            return self._ask(method, path, **given)
        except _No:
            return None

    def _ask(self, method: Literal["GET", "POST"], path: str, **given: Any) -> Any:
        """One request.

        Raises:
            _No: MLflow knows no such thing.
            Unavailable: no answer, or it cannot answer now, or refuses our credentials.
            StageFailed: it refuses what was asked.
        """
        try:
            if method == "GET":
                said = self._client.get(path, params={name: value for name, value in given.items() if value != ""})
            else:
                said = self._client.post(path, json=given)
        except httpx.HTTPError as error:
            raise Unavailable(f"MLflow at {self.uri} is away: {type(error).__name__} {error}", do=_LATER) from None
        if said.status_code in (401, 403):
            raise Unavailable(f"MLflow at {self.uri} refuses our credentials ({said.status_code})", do=_SECRET)
        try:
            answer = said.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Unavailable(f"MLflow at {self.uri} answered {said.status_code} without JSON", do=_LATER)
        if said.is_success:
            return answer
        code, message = str(answer.get("error_code", said.status_code)), str(answer.get("message", ""))[:300]
        if code in UNKNOWN:
            raise _No(message, do="name one that is registered")
        if code in AWAY or said.status_code in (429, 502, 503, 504):
            raise Unavailable(f"MLflow at {self.uri} cannot answer now: {code} {message}", do=_LATER)
        raise StageFailed(f"MLflow at {self.uri} refused: {code} {message}", do="see the server's log")


_LATER = "start it and try again"
_SECRET = "check the Secret that credentialsSecretRef names"  # noqa: S105  no secret: where one is


class _No(BadInput):
    """There is no such model, version or alias."""


def _version(found: Mapping[str, Any]) -> Version:
    tags = {each["key"]: str(each.get("value", "")) for each in found.get("tags", ())}
    created = int(found.get("creation_timestamp") or 0)
    number, source = str(found["version"]), str(found.get("source", ""))
    return version_of(str(found["name"]), number, source=source, tags=tags, created_ms=created)
