"""A registry in memory with what the loop needs of it: aliases, versions, tags."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from modelyard.errors import BadInput, Unavailable
from modelyard.registry.port import AliasMoved, Candidate, Version
from modelyard.verdict import Outcome, Reason, Verdict


class PlainRegistry:
    """The `Registry` port, without bytes."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Version] = {}
        self.aliases: dict[tuple[str, str], str | None] = {}
        self.away = False
        self.acts = 0

    def add(self, model: str, number: str, digest: str) -> Version:
        self.known[model, number] = Version(model=model, version=number, digest=digest)
        return self.known[model, number]

    def register(self, candidate: Candidate) -> Version:
        raise NotImplementedError

    def fetch(self, version: Version, into: Path) -> Path:
        raise NotImplementedError

    def versions(self, model: str) -> tuple[Version, ...]:
        self._there()
        return self._of(model)

    def resolve(self, model: str, alias: str) -> Version | Verdict:
        self._there()
        number = self.aliases.get((model, alias))
        if number is None:
            return _unknown(Reason.ALIAS_MISSING, f"{model} has no alias {alias}")
        found = self.known.get((model, number))
        if found is None:
            return _unknown(Reason.VERSION_MISSING, f"{model} has no version {number}, which {alias} names")
        if not found.digest:
            return _unknown(Reason.ARTIFACT_MISSING, f"version {number} of {model} has no archive")
        return found

    def move_alias(self, model: str, alias: str, version: str, *, expected: str | None) -> None:
        self._there()
        if (model, version) not in self.known:
            raise BadInput(f"{model} has no version {version}", do="name one that it has")
        now = self.aliases.get((model, alias))
        if now == version:
            return
        if now != expected:
            raise AliasMoved(alias, model, now=now, expected=expected)
        self.acts += 1
        self.aliases[model, alias] = version

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        self._there()
        found = self.known.get((model, version))
        if found is None:
            raise BadInput(f"{model} has no version {version}", do="name one that it has")
        if {**found.tags, **tags} != found.tags:
            self.acts += 1
            self.known[model, version] = replace(found, tags={**found.tags, **tags})

    def _of(self, model: str) -> tuple[Version, ...]:
        return tuple(each for (name, _), each in self.known.items() if name == model)

    def _there(self) -> None:
        if self.away:
            raise Unavailable("the registry does not answer", do="start it")


def _unknown(reason: Reason, message: str) -> Verdict:
    return Verdict(outcome=Outcome.INCONCLUSIVE, reason=reason, message=message)
