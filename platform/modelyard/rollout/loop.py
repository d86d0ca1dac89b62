"""The one loop: observe, decide, apply. Shared by laptop and cluster; the operator runs it in threads.

Every kind of trouble ends the look, never the loop: the next look sees the world as it is then.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from modelyard.errors import BadInput, Conflict, ModelyardError, Unavailable
from modelyard.registry.port import Version
from modelyard.rollout.analysis import Evidence
from modelyard.rollout.decide import decide
from modelyard.rollout.decide.sides import baseline_of
from modelyard.rollout.history import Past, past
from modelyard.rollout.intents import EnsureArm, Forget, Intent, MoveAlias, Record, RetireArm, SetWeights, TagVersion
from modelyard.rollout.observation import Memory, Observation, Target, Trouble
from modelyard.rollout.pairs import Told
from modelyard.rollout.ports import World
from modelyard.rollout.states import has_ended
from modelyard.spec.codec import from_data, to_data
from modelyard.spec.deployment import DeploymentSpec, ModelDeployment, ModelRef
from modelyard.spec.objects import told
from modelyard.spec.rollout import ModelRollout
from modelyard.verdict import Outcome, Reason, Verdict

log = logging.getLogger(__name__)

AGAIN_S = 0.5
"""When to look again after trouble."""
CHANGED_S = 0.05
"""... and after something changed under the decision: soon, but never in a hot loop."""


Then = Callable[[str, DeploymentSpec], None]


def look(world: World, key: str, *, now: float, then: Then | None = None) -> float | None:
    """Observe, decide and apply once.

    Args:
        world: what is looked at.
        key: the deployment.
        now: seconds since the epoch.
        then: what this world does about the wish at the end of each look, beside its ports.

    Returns:
        When to look again, seconds since the epoch; not later than `now`: at once; None: when something changes.
    """
    try:
        seen = observe(world, key, now)
        if seen is None:
            world.memory.pop(key, None)
            world.troubles.pop(key, None)
            return None
        decision = decide(seen)
        world.memory[key] = decision.memory
        for intent in decision.intents:
            apply(world, key, intent)
        trouble = _after(world, then, key, seen.wish.spec) or _unanswered(world, key, seen)
    except Conflict as changed:
        log.info("%s: %s", key, changed)
        return now + CHANGED_S
    except ModelyardError as error:
        world.troubles[key] = _told(world, key, error)
        return now + AGAIN_S
    told = world.troubles.pop(key, None)
    if then is None and told is not None and told.beside:
        trouble = told  # it was not tried again
    if trouble is not None:
        world.troubles[key] = trouble
    if told == trouble:
        return decision.look_again_at
    return now if trouble is None else now + AGAIN_S  # the status still says what was


def _told(world: World, key: str, error: ModelyardError, *, beside: bool = False) -> Trouble:
    """The trouble, logged where it is news: a look that meets it again has nothing to say."""
    trouble = Trouble(message=str(error), refused=isinstance(error, BadInput), beside=beside)
    if world.troubles.get(key) != trouble:
        log.warning("%s: %s", key, error)
    return trouble


def _after(world: World, then: Then | None, key: str, spec: DeploymentSpec) -> Trouble | None:
    """Do what this world does beside its ports; what fails there holds up no rollout."""
    if then is None:
        return None
    try:
        then(key, spec)
    except Conflict:
        raise
    except ModelyardError as error:
        return _told(world, key, error, beside=True)
    return None


def observe(world: World, key: str, now: float) -> Observation | None:
    """Read everything once; None: the wish is gone.

    The parts are read before the attempts, because each part can only be changed at the version that was read:
    where an attempt changed after a part was read, whoever acts on the part by it has changed the part too.
    """
    wish = world.records.deployment(key)
    if wish is None:
        return None
    arms = world.arms.arms(key)
    weights = world.router.weights(key)
    target = _target(world, wish.spec.model)
    history = past(world.records.rollouts(key), wish, target)
    trusted = {} if history.stable is None else {history.stable.arm}
    counts = world.counters.counts(key) if arms.keys() - trusted else {}  # of stable alone nothing is asked
    memory = world.memory.get(key, Memory())
    seen = Observation(
        now=now,
        wish=wish,
        attempt=history.attempt,
        attempts=history.number,
        stable=history.stable,
        failed=history.failed,
        forgettable=history.forgettable,
        followers=_followers(world, wish),
        target=target,
        arms=arms,
        weights=weights,
        counts=counts,
        told=_told_of(world, key, history),
        memory=memory,
        trouble=world.troubles.get(key),
    )
    return seen if history.attempt is None or has_ended(history.attempt) else _remembering(seen, history.attempt)


def _told_of(world: World, key: str, history: Past) -> Mapping[str, Told]:
    """What is counted elsewhere of both arms of the attempt under way."""
    attempt, stable = history.attempt, history.stable
    if attempt is None or stable is None or has_ended(attempt):
        return {}
    spec = attempt.spec.serving.analysis
    if all(metric.query is None for metric in spec.metrics):
        return {}
    if world.queries is None:
        return {one.name: Told(why="nobody can be asked here", refused=True) for one in spec.metrics if one.query}
    return world.queries.told(key, spec, (baseline_of(attempt, stable.arm) or stable.arm, attempt.spec.arm))


def _unanswered(world: World, key: str, seen: Observation) -> Trouble | None:
    """A metric whose source refuses the question, or is away: the rollout goes on, and comes to no verdict."""
    for metric, heard in sorted(seen.told.items()):
        what = f"analysis.metrics {metric}: {heard.why}"
        if heard.refused:
            return _told(world, key, BadInput(what, do="mend that, then `modelyard rollout retry`"), beside=True)
        if heard.away:
            return _told(world, key, Unavailable(what, do="wait"), beside=True)
    return None


def _remembering(seen: Observation, attempt: ModelRollout) -> Observation:
    """The fresher of memory and checkpoint: a loop that was not in charge must not bet on one long block."""
    memory, name, version = seen.memory, attempt.metadata.name, attempt.metadata.resource_version
    if memory.rollout == name and memory.read == version:
        return replace(seen, checkpoint=memory.checkpoint)
    if memory.rollout != name:
        memory = Memory(rollout=name, still=memory.still)
    checkpoint, mine = _checkpoint(attempt), memory.evidence
    if checkpoint is not None and (mine is None or checkpoint.opened_at > mine.opened_at):
        mine = checkpoint
    return replace(
        seen, memory=replace(memory, evidence=mine, read=version, checkpoint=checkpoint), checkpoint=checkpoint
    )


def _checkpoint(attempt: ModelRollout) -> Evidence | None:
    """The attempt's evidence; none where another release wrote it and it cannot be read: then it is gathered anew."""
    if not attempt.status.analysis:
        return None
    try:
        return from_data(Evidence, attempt.status.analysis, where=f"{attempt.metadata.name}: status.analysis")
    except BadInput as unreadable:
        log.warning("%s; the evidence is gathered anew", unreadable)
        return None


def _target(world: World, model: ModelRef) -> Target | Verdict:
    """What the wish names; never an exception: a registry that is away changes nothing but a condition."""
    try:
        found = world.registry.resolve(model.name, model.alias) if model.alias else _pinned(world, model)
    except Unavailable as away:
        return Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.REGISTRY_UNAVAILABLE, message=away.what)
    if isinstance(found, Verdict):
        return found
    return Target(version=found.version, digest=found.digest, tags=found.tags)


def _followers(world: World, wish: ModelDeployment) -> int:
    """Deployments that follow the wish's alias; only counted where a rollback may move it."""
    model = wish.spec.model
    if model.alias is None or wish.spec.rollback.alias != "Restore":
        return 1
    keys = world.records.keys()
    return sum(_follows(world, key, model) for key in keys)


def _follows(world: World, key: str, model: ModelRef) -> bool:
    """Whether a deployment follows the same alias; one whose record cannot be read might."""
    try:
        wish = world.records.deployment(key)
    except ModelyardError:
        return True
    named = None if wish is None else wish.spec.model
    return named is not None and replace(named, verification=model.verification, version=model.version) == model


def _pinned(world: World, model: ModelRef) -> Version | Verdict:
    for each in world.registry.versions(model.name):
        if each.version == model.version:
            return each
    message = f"{model.name} has no version {model.version}"
    return Verdict(outcome=Outcome.INCONCLUSIVE, reason=Reason.VERSION_MISSING, message=message)


def apply(world: World, key: str, intent: Intent) -> None:
    """Do one thing.

    Raises:
        Conflict: what it concerns changed since it was read.
        Unavailable: what it concerns is away.
    """
    match intent:
        case Record(record=record, evidence=evidence):
            if evidence is not None and isinstance(record, ModelRollout):
                record = replace(record, status=replace(record.status, analysis=to_data(evidence)))
            world.records.write(record)
        case Forget(record=record):
            world.records.delete(record)
        case EnsureArm():
            world.arms.ensure(key, intent)
        case RetireArm(name=name, expected=expected):
            world.arms.retire(key, name, expected=expected)
        case SetWeights(weights=weights, expected=expected):
            world.router.set_weights(key, weights, expected=expected)
        case MoveAlias(model=model, alias=alias, version=version, expected=expected):
            _on_version(lambda: world.registry.move_alias(model, alias, version, expected=expected))
        case TagVersion(model=model, version=version, tags=tags, moments=moments):
            said = {**tags, **{name: told(at) for name, at in moments.items()}}
            _on_version(lambda: world.registry.tag(model, version, said))


def _on_version(act: Callable[[], None]) -> None:
    """A version that was deleted meanwhile can be neither named nor tagged: that must not hold up the end."""
    try:
        act()
    except BadInput as gone:
        log.warning("%s", gone)
