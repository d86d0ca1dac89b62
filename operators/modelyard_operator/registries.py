"""Registries, followed: one paged request a registry and poll, whatever the number of models.

A look asks no registry what an alias names: it reads what the last poll found. Alias → version → digest is resolved
once; afterwards a few versions are read again at each poll, the longest unread first, so that one that was deleted or
whose digest was rewritten is noticed. A registry that is away changes nothing but a condition.
"""

import base64
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import structlog

from modelyard.errors import ModelyardError, Unavailable
from modelyard.kube.port import SECRET, Kube
from modelyard.registry.answers import dangling, no_alias, served
from modelyard.registry.names import check_alias, check_model
from modelyard.registry.port import Followed, Version
from modelyard.registry.rest import Credentials, RestRegistry
from modelyard.spec.registry import ModelRegistry
from modelyard.verdict import Outcome, Reason, Verdict

PATIENCE_S = 30.0
"""So long after its last good poll a registry counts as away, three intervals at least: one lost poll is no news."""
REREAD = 20
"""Versions that are read again at each poll."""
SECRET_S = 60.0
"""How often a registry's Secret is read again; at once where it was refused."""

log = structlog.get_logger()


class Source(Followed, Protocol):
    """A registry that tells all its aliases at once (`modelyard.registry.rest.RestRegistry`)."""

    def aliases(self) -> Mapping[str, Mapping[str, str]]:
        """Model → alias → version."""

    def version(self, model: str, number: str) -> Version | None:
        """One version."""


class _Read(NamedTuple):
    version: Version | None
    at: float
    digest: str
    """As it was read first."""


Models = frozenset[str]


class Following:
    """One registry, as `modelyard.registry.port.Followed`. Reads come from the last poll; writes go to the registry.

    Without a source it stands for one that is not there: everything is unknown, and what serves goes on serving.
    """

    def __init__(
        self,
        source: Source | None,
        *,
        why: str = "it has not been read yet",
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._somewhere, self._patience_s, self._clock = source, patience_s, clock
        self._lock = threading.Lock()
        self._aliases: Mapping[str, Mapping[str, str]] | None = None
        self._polled = 0.0
        self._trouble = why
        self._was_away = True
        self._read: dict[tuple[str, str], _Read] = {}

    # the port

    def resolve(self, model: str, alias: str) -> Version | Verdict:
        """What the alias named at the last poll, or why that is unknown.

        Raises:
            Unavailable: the registry is away.
            BadInput: a name that no registry takes.
        """
        check_model(model)
        check_alias(alias)
        number = self._known().get(model, {}).get(alias)
        if number is None:
            return no_alias(model, alias)
        read = self._version(model, number)
        if read.version is None:
            return dangling(model, alias)
        if read.version.digest != read.digest:
            message = f"version {number} of {model} had digest {read.digest}, and now says {read.version.digest}"
            return Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.DIGEST_MISMATCH, message=message)
        return served(read.version, alias)

    def versions(self, model: str) -> tuple[Version, ...]:
        """All versions of a model, oldest first."""
        return self._there().versions(model)

    def move_alias(self, model: str, alias: str, version: str, *, expected: str | None) -> None:
        """Let the alias name `version`, and know it at once."""
        self._there().move_alias(model, alias, version, expected=expected)
        with self._lock:
            before = self._aliases or {}
            self._aliases = {**before, model: {**before.get(model, {}), alias: version}}

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Add or overwrite tags, and know them at once."""
        self._there().tag(model, version, tags)
        self._ask(model, version, self._read.get((model, version)))

    # what the poll does

    @property
    def away(self) -> str:
        """Why the registry counts as away, in words that stay the same while it lasts; empty: it does not."""
        if self._aliases is None:
            return self._trouble
        if self._clock() - self._polled <= self._patience_s:
            return ""
        return self._trouble or "it has not been read lately"  # as after a time in which another replica led

    def poll(self) -> Models | None:
        """Read all aliases; gives the models of which something moved, None for all of them.

        Raises:
            ModelyardError: the registry did not answer, and counted as away before already, or does not yet.
        """
        assert self._somewhere is not None
        was_away = self._was_away or bool(self.away)
        try:
            aliases = self._somewhere.aliases()
            with self._lock:
                before, self._aliases = self._aliases or {}, aliases
                self._polled, self._trouble = self._clock(), ""
            moved = {model for model in before.keys() | aliases.keys() if before.get(model) != aliases.get(model)}
            moved |= self._read_again(aliases)
        except ModelyardError as error:
            self._trouble = error.what
            if self.away and not self._was_away:
                self._was_away = True
                return None
            raise
        self._was_away = False
        return None if was_away else frozenset(moved)

    def _known(self) -> Mapping[str, Mapping[str, str]]:
        away, aliases = self.away, self._aliases
        if away or aliases is None:
            raise Unavailable(away, do="start it; what serves goes on serving")
        return aliases

    def _there(self) -> Source:
        self._known()
        assert self._somewhere is not None
        return self._somewhere

    def _version(self, model: str, number: str) -> _Read:
        read = self._read.get((model, number))
        return read if read is not None else self._ask(model, number, None)

    def _ask(self, model: str, number: str, before: _Read | None) -> _Read:
        version = self._there().version(model, number)
        digest = version.digest if version is not None else ""
        read = _Read(version, self._clock(), before.digest if before is not None and before.digest else digest)
        with self._lock:
            self._read[model, number] = read
        return read

    def _read_again(self, aliases: Mapping[str, Mapping[str, str]]) -> set[str]:
        """The models of which a version is another than it was; what no alias names is forgotten."""
        with self._lock:
            named = {(model, number) for model, each in aliases.items() for number in each.values()}
            for place in self._read.keys() - named:
                del self._read[place]
            oldest = sorted(self._read.items(), key=lambda item: item[1].at)[:REREAD]
        return {model for (model, number), read in oldest if self._ask(model, number, read).version != read.version}


class _Entry(NamedTuple):
    spec: ModelRegistry
    following: Following
    source: RestRegistry
    secret: Mapping[str, str]
    secret_at: float


Connect = Callable[[ModelRegistry, Mapping[str, str]], RestRegistry]


def connect(registry: ModelRegistry, secret: Mapping[str, str]) -> RestRegistry:
    """A registry's client, with what its Secret says."""
    known = {name: secret[name] for name in ("username", "password", "token") if name in secret}
    mlflow = registry.spec.mlflow
    return RestRegistry(mlflow.tracking_uri, workspace=mlflow.workspace, credentials=Credentials(**known))


class Registries:
    """All ModelRegistries by `namespace/name`: who reads their Secrets, polls them, and hands them to looks."""

    def __init__(self, kube: Kube, *, connect: Connect = connect, clock: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._connect, self._clock = kube, connect, clock
        self._specs: dict[str, ModelRegistry] = {}
        self._entries: dict[str, _Entry] = {}
        self._tried: set[str] = set()
        self._lock = threading.Lock()

    def put(self, key: str, spec: ModelRegistry) -> None:
        """A ModelRegistry is there, or is another now."""
        with self._lock:
            self._specs[key] = spec

    def drop(self, key: str) -> None:
        """A ModelRegistry was deleted."""
        with self._lock:
            self._specs.pop(key, None)
            self._tried.discard(key)
            entry = self._entries.pop(key, None)
        if entry is not None:
            entry.source.close()

    def followed(self, key: str) -> Followed:
        """The registry for a look."""
        entry = self._entries.get(key)
        if entry is not None:
            return entry.following
        namespace, _, name = key.partition("/")
        if key in self._specs:
            return Following(None, why=f"ModelRegistry {name} has not been read yet")
        return Following(None, why=f"there is no ModelRegistry {name} in namespace {namespace}")

    def settled(self, key: str) -> bool:
        """Whether a first poll has ended, or there is none to wait for: until then a look would see nothing."""
        return key in self._tried or key not in self._specs

    def interval_s(self, key: str) -> float | None:
        """Seconds between polls; None: it is gone."""
        spec = self._specs.get(key)
        return None if spec is None else max(1.0, spec.spec.poll_interval.seconds)

    def away(self, key: str) -> str | None:
        """Why a registry counts as away; empty: it does not; None: it was never asked."""
        entry = self._entries.get(key)
        return None if entry is None else entry.following.away

    def webhook_secret(self, key: str) -> str:
        """Key `webhookSecret` of the registry's Secret; empty: hints of nobody are taken."""
        entry = self._entries.get(key)
        return "" if entry is None else entry.secret.get("webhookSecret", "")

    def poll(self, key: str) -> Models | None:
        """Poll one (`Following.poll`).

        Raises:
            ModelyardError: its Secret cannot be read, or it does not answer.
        """
        spec = self._specs.get(key)
        if spec is None:
            return frozenset()
        try:
            entry = self._entries.get(key)
            if entry is None or entry.spec != spec or self._clock() - entry.secret_at >= SECRET_S:
                entry = self._renewed(key, spec, entry)
            return entry.following.poll()
        except Unavailable:
            with self._lock:
                entry = self._entries.get(key)
                if entry is not None:  # perhaps its Secret is another now
                    self._entries[key] = entry._replace(secret_at=float("-inf"))
            raise
        finally:
            self._tried.add(key)

    def _renewed(self, key: str, spec: ModelRegistry, before: _Entry | None) -> _Entry:
        secret = self._secret(key.partition("/")[0], spec)
        if before is not None and before.spec == spec and before.secret == secret:
            entry = before._replace(secret_at=self._clock())
        else:
            source = self._connect(spec, secret)
            patience = max(PATIENCE_S, 3 * spec.spec.poll_interval.seconds)
            following = Following(source, patience_s=patience, clock=self._clock)
            entry = _Entry(spec, following, source, secret, self._clock())
        with self._lock:
            if key in self._specs:
                self._entries[key] = entry
        return entry

    def _secret(self, namespace: str, spec: ModelRegistry) -> Mapping[str, str]:
        reference = spec.spec.mlflow.credentials_secret_ref
        if reference is None:
            return {}
        found = self._kube.get(SECRET, namespace, reference.name)
        if found is None:
            raise Unavailable(f"there is no Secret {reference.name} in namespace {namespace}", do="make it")
        return {name: base64.b64decode(value).decode() for name, value in (found.get("data") or {}).items()}
