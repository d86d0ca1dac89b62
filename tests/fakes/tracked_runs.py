"""MLflow's runs of one experiment, in memory."""

from collections.abc import Mapping

from modelyard_pipelines.tracking import JOB, PARENT, STEP, Runs, Status, TrackedRun


class TrackedRuns(Runs):
    """As `Runs`; what was logged stays to be read."""

    def __init__(self) -> None:
        super().__init__("http://mlflow", experiment="digits", experiment_id="1")
        self.known: dict[str, TrackedRun] = {}

    def of_job(self, job: str) -> tuple[TrackedRun, ...]:
        return tuple(one for one in self.known.values() if one.tags[JOB] == job)

    def begin(self, job: str, step: str = "", *, parent: str = "") -> str:
        tags = {JOB: job, STEP: step, **({PARENT: parent} if parent else {})}
        made = TrackedRun(id=f"r{len(self.known)}", status="RUNNING", started_at=1.0 + len(self.known), tags=tags)
        self.known[made.id] = made
        return made.id

    def log(
        self,
        run_id: str,
        *,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> None:
        self._change(run_id, tags={**self.known[run_id].tags, **(tags or {})})

    def end(self, run_id: str, status: Status) -> None:
        self._change(run_id, status=status)

    def ended(self) -> dict[str, str]:
        """How each step ended; the whole under no name."""
        return {one.tags.get(STEP, ""): one.status for one in self.known.values()}

    def _change(self, run_id: str, *, tags: Mapping[str, str] | None = None, status: str = "") -> None:
        one = self.known[run_id]
        self.known[run_id] = TrackedRun(
            id=one.id, status=status or one.status, started_at=one.started_at, tags=one.tags if tags is None else tags
        )
