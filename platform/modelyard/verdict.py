"""A verdict: an outcome with a reason constant and a message that shows both sides."""

from enum import StrEnum

from modelyard.record import record


class Outcome(StrEnum):
    """What a gate, an analysis or a rollout came to."""

    PASSED = "Passed"
    """A gate let the candidate through."""
    SUCCESSFUL = "Successful"
    """An analysis found the canary not worse than its margins; a rollout ended with the new version as stable."""
    FAILED = "Failed"
    """Worse than allowed; the message names what and by how much."""
    INCONCLUSIVE = "Inconclusive"
    """The evidence does not decide. Never promotes."""


class Reason(StrEnum):
    """Why. Constants, so that alerts, tests and people can rely on them."""

    # gates
    ALL_RULES_PASSED = "AllRulesPassed"
    WITHIN_BOUND = "WithinBound"
    OUT_OF_BOUND = "OutOfBound"
    NOT_WORSE = "NotWorse"
    WORSE = "Worse"
    BETTER = "Better"
    NOT_BETTER = "NotBetter"
    TOO_FEW_EXAMPLES = "TooFewExamples"
    NO_CHAMPION = "NoChampion"
    CHAMPION_UNAVAILABLE = "ChampionUnavailable"
    REGRESSION = "Regression"
    NO_REGRESSION = "NoRegression"
    NOT_RECORDED = "NotRecorded"
    # packages
    GOLDEN_REQUESTS_ANSWERED = "GoldenRequestsAnswered"
    GOLDEN_REQUESTS_DIFFER = "GoldenRequestsDiffer"
    # the alias's target
    ALIAS_MISSING = "AliasMissing"
    VERSION_MISSING = "VersionMissing"
    ARTIFACT_MISSING = "ArtifactMissing"
    DIGEST_MISMATCH = "DigestMismatch"
    REGISTRY_UNAVAILABLE = "RegistryUnavailable"
    # rollouts
    FIRST_VERSION = "FirstVersion"
    ANALYSIS_SUCCESSFUL = "AnalysisSuccessful"
    ANALYSIS_FAILED = "AnalysisFailed"
    ANALYSIS_INCONCLUSIVE = "AnalysisInconclusive"
    ERROR_RATE = "ErrorRate"
    LATENCY = "Latency"
    PREDICTION_DRIFT = "PredictionDrift"
    METRIC = "Metric"
    NO_EVIDENCE = "NoEvidence"
    GATHERING_EVIDENCE = "GatheringEvidence"
    MAX_DURATION = "MaxDuration"
    PROGRESS_DEADLINE = "ProgressDeadline"
    ABORTED = "Aborted"
    PROMOTED = "Promoted"
    SUPERSEDED = "Superseded"
    STEPS_DONE = "StepsDone"
    CANARY_UNAVAILABLE = "CanaryUnavailable"


@record
class Verdict:
    """An outcome, why, and both sides of the comparison in words."""

    outcome: Outcome
    """What it came to."""
    reason: Reason
    """Why, as a constant."""
    message: str
    """Why, in words, with both sides of the comparison."""

    @property
    def lets_through(self) -> bool:
        """Whether what was judged may go on."""
        return self.outcome in (Outcome.PASSED, Outcome.SUCCESSFUL)
