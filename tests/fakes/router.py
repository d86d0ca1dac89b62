"""A router in memory. What is asked is in force, and confirmed, after `settle`."""

from collections.abc import Mapping

from tests.fakes.arms import FakeArms

from modelyard.errors import BadInput, Conflict
from modelyard.rollout.observation import Weights


class FakeRouter:
    """The `Router` port; refuses weights that no router takes."""

    def __init__(self, arms: FakeArms) -> None:
        self.arms = arms
        self.asked: dict[str, dict[str, int]] = {}
        self.confirmed: dict[str, dict[str, int]] = {}
        """What requests follow."""
        self.readable = True
        self.versions: dict[str, int] = {}
        self.acts = 0

    def weights(self, key: str) -> Weights:
        version = self.versions.get(key)
        return Weights(
            asked=dict(self.asked.get(key, {})),
            confirmed=dict(self.confirmed.get(key, {})) if self.readable else None,
            resource_version="" if version is None else str(version),
        )

    def set_weights(self, key: str, weights: Mapping[str, int], *, expected: str) -> None:
        assert all(isinstance(share, int) and 0 <= share <= 100 for share in weights.values()), f"no weights: {weights}"
        assert sum(weights.values()) == 100 or not weights, f"weights that do not sum to 100: {weights}"
        if self.weights(key).resource_version != expected:
            raise Conflict(f"the route of {key} changed since it was read", do="look again")
        unknown = set(weights) - set(self.arms.there.get(key, {}))
        assert not any(weights[name] for name in unknown), f"traffic to arms that are not there: {unknown}"
        if unknown:
            raise BadInput(f"{key} has no arms {unknown}", do="ensure them first")
        if self.asked.get(key, {}) == dict(weights):
            return
        for arm, share in weights.items():
            if share and self.arms.there[key][arm].replicas == 0:
                raise AssertionError(f"{share} % to arm {arm}, which is being retired")
        self.acts += 1
        self.asked[key] = dict(weights)
        self.versions[key] = self.versions.get(key, 0) + 1

    # what happens in the world

    def settle(self) -> None:
        """Let what was asked be in force."""
        self.confirmed = {key: dict(weights) for key, weights in self.asked.items()}
