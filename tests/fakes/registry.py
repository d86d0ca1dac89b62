"""A registry in memory with bytes, which behaves as MLflow does where it hurts: one version for one digest."""

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

from tests.fakes.plain_registry import PlainRegistry

from modelyard.errors import BadInput, Tampered
from modelyard.registry.bundle import check_candidate
from modelyard.registry.names import check_alias, check_model
from modelyard.registry.port import Candidate, Version
from modelyard.storage.atomic import digest_file
from modelyard.verdict import Verdict


class FakeRegistry(PlainRegistry):
    """`Registry` without a server. Refuses states that cannot be: two versions of one digest, an alias on nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._archives: dict[tuple[str, str], bytes] = {}
        self._reports: dict[tuple[str, str], dict[str, bytes]] = {}

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
            self.known[made.model, number] = made
            self._archives[made.model, number] = Path(candidate.archive).read_bytes()
            self._reports[made.model, number] = {
                name: Path(path).read_bytes() for name, path in candidate.artifacts.items()
            }
            self._check()
            return made

    def versions(self, model: str) -> tuple[Version, ...]:
        check_model(model)
        return tuple(sorted(super().versions(model), key=lambda version: int(version.version)))

    def resolve(self, model: str, alias: str) -> Version | Verdict:
        check_model(model)
        check_alias(alias)
        return super().resolve(model, alias)

    def move_alias(self, model: str, alias: str, version: str, *, expected: str | None) -> None:
        check_model(model)
        check_alias(alias)
        super().move_alias(model, alias, version, expected=expected)
        self._check()

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        check_model(model)
        super().tag(model, version, tags)

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

    def keep(self, version: Version, reports: Mapping[str, str]) -> None:
        self._there()
        kept = self._reports.get((version.model, version.version))
        if kept is None:
            raise BadInput(f"Version {version.version} of {version.model} is not there", do="name another")
        kept |= {name: Path(path).read_bytes() for name, path in reports.items()}

    # what others do behind our back

    def delete(self, model: str, version: str) -> None:
        """As in MLflow's UI: the aliases go with the version."""
        del self.known[model, version]
        self._archives.pop((model, version), None)
        self.aliases = {key: named for key, named in self.aliases.items() if (key[0], named) != (model, version)}

    def spoil(self, version: Version) -> None:
        """Change the stored bytes of a version's archive."""
        self._archives[version.model, version.version] = b"other bytes"

    # inside

    def _check(self) -> None:
        keys = [(version.model, version.digest) for version in self.known.values()]
        assert len(keys) == len(set(keys)), "two versions have one digest"
        for (model, alias), number in self.aliases.items():
            assert (model, number) in self.known, f"{alias} of {model} names version {number}, which is not there"
