"""A registry in memory that behaves as MLflow does where it hurts: numbers are reused, aliases can dangle."""

import shutil
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from modelyard.errors import BadInput, Tampered, Unavailable
from modelyard.registry.bundle import check_candidate
from modelyard.registry.names import check_alias, check_model
from modelyard.registry.port import AliasMoved, Candidate, Version
from modelyard.storage.atomic import digest_file
from modelyard.verdict import Outcome, Reason, Verdict


class FakeRegistry:
    """`Registry` without a server. Refuses states that cannot be: two versions of one digest, an alias on nothing."""

    def __init__(self) -> None:
        self.away = False
        self._lock = threading.Lock()
        self._versions: dict[tuple[str, str], Version] = {}
        self._archives: dict[tuple[str, str], bytes] = {}
        self._reports: dict[tuple[str, str], dict[str, bytes]] = {}
        self._aliases: dict[tuple[str, str], str] = {}

    def register(self, candidate: Candidate) -> Version:
        self._there()
        check_model(candidate.model)
        check_candidate(candidate)
        with self._lock:
            for version in self._of(candidate.model):
                if version.digest == candidate.digest:
                    return version
            number = str(1 + max((int(version.version) for version in self._of(candidate.model)), default=0))
            made = Version(
                model=candidate.model,
                version=number,
                digest=candidate.digest,
                source=f"memory:{candidate.model}/{number}",
                tags={
                    **candidate.tags,
                    "modelyard.digest": candidate.digest,
                    **{f"modelyard.metric.{name}": f"{value:.6g}" for name, value in candidate.metrics.items()},
                },
            )
            self._versions[made.model, number] = made
            self._archives[made.model, number] = Path(candidate.archive).read_bytes()
            self._reports[made.model, number] = {
                name: Path(path).read_bytes() for name, path in candidate.artifacts.items()
            }
            self._check()
            return made

    def versions(self, model: str) -> tuple[Version, ...]:
        self._there()
        check_model(model)
        return tuple(sorted(self._of(model), key=lambda version: int(version.version)))

    def resolve(self, model: str, alias: str) -> Version | Verdict:
        self._there()
        check_model(model)
        check_alias(alias)
        number = self._aliases.get((model, alias))
        if number is None:
            return _unknown(Reason.ALIAS_MISSING, f"{model} has no alias {alias}")
        return self._versions[model, number]

    def move_alias(self, model: str, alias: str, version: str, *, expected: str | None) -> None:
        self._there()
        check_model(model)
        check_alias(alias)
        if (model, version) not in self._versions:
            raise BadInput(f"{model} has no version {version}", do="name one that is registered")
        now = self._aliases.get((model, alias))
        if now == version:
            return
        if now != expected:
            raise AliasMoved(alias, model, now=now, expected=expected)
        self._aliases[model, alias] = version
        self._check()

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        self._there()
        if (model, version) not in self._versions:
            raise BadInput(f"{model} has no version {version}", do="name one that is registered")
        found = self._versions[model, version]
        self._versions[model, version] = replace(found, tags={**found.tags, **tags})

    def fetch(self, version: Version, into: Path) -> Path:
        self._there()
        raw = self._archives.get((version.model, version.version))
        if raw is None:
            raise BadInput(f"Version {version.version} of {version.model} has no archive", do="register it again")
        path = into / f"{version.digest.removeprefix('sha256:')}.mar"
        into.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        if digest_file(path) != version.digest:
            shutil.rmtree(into)
            raise Tampered(f"The archive of version {version.version} was changed", do="do not serve it")
        return path

    def report(self, version: Version, name: str, into: Path) -> Path:
        self._there()
        kept = self._reports.get((version.model, version.version), {})
        if name not in kept:
            raise BadInput(f"Version {version.version} of {version.model} has no {name}", do="name another")
        into.mkdir(parents=True, exist_ok=True)
        (into / name).write_bytes(kept[name])
        return into / name

    # what others do behind our back

    def delete(self, model: str, version: str) -> None:
        """As in MLflow's UI: the aliases go with the version."""
        del self._versions[model, version]
        self._archives.pop((model, version), None)
        self._aliases = {key: named for key, named in self._aliases.items() if (key[0], named) != (model, version)}

    def spoil(self, version: Version) -> None:
        """Change the stored bytes of a version's archive."""
        self._archives[version.model, version.version] = b"other bytes"

    # inside

    def _of(self, model: str) -> list[Version]:
        return [version for (name, _), version in self._versions.items() if name == model]

    def _there(self) -> None:
        if self.away:
            raise Unavailable("The registry does not answer", do="start it and try again")

    def _check(self) -> None:
        keys = [(version.model, version.digest) for version in self._versions.values()]
        assert len(keys) == len(set(keys)), "two versions have one digest"
        for (model, alias), number in self._aliases.items():
            assert (model, number) in self._versions, f"{alias} of {model} names version {number}, which is not there"


def _unknown(reason: Reason, message: str) -> Verdict:
    return Verdict(outcome=Outcome.INCONCLUSIVE, reason=reason, message=message)
