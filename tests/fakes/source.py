"""A registry in memory as the operator asks for it: all its aliases at once."""

from collections.abc import Mapping

from tests.fakes.plain_registry import PlainRegistry

from modelyard.registry.port import Version


class Source:
    """A registry in memory that tells all its aliases at once, and counts what it is asked."""

    def __init__(self, plain: PlainRegistry | None = None) -> None:
        self.plain = plain or PlainRegistry()
        self.known, self.aliases_of, self.add = self.plain.known, self.plain.aliases, self.plain.add
        self.resolve, self.versions = self.plain.resolve, self.plain.versions
        self.move_alias, self.tag = self.plain.move_alias, self.plain.tag
        self.asked: list[str] = []

    @property
    def away(self) -> bool:
        return self.plain.away

    @away.setter
    def away(self, away: bool) -> None:
        self.plain.away = away

    def aliases(self) -> Mapping[str, Mapping[str, str]]:
        self._asked("aliases")
        found: dict[str, dict[str, str]] = {model: {} for model, _ in self.known}
        for (model, alias), number in self.aliases_of.items():
            if number is not None:
                found.setdefault(model, {})[alias] = number
        return found

    def version(self, model: str, number: str) -> Version | None:
        self._asked(f"version {number}")
        return self.known.get((model, number))

    def _asked(self, what: str) -> None:
        self.asked.append(what)
        self.plain._there()

    def close(self) -> None:
        pass
