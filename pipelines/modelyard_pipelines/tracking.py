"""One MLflow run for each pipeline run, and below it one for each step: over REST, in milliseconds.

https://mlflow.org/docs/latest/api_reference/rest-api.html. Kubeflow's own integration sets `MLFLOW_EXPERIMENT_ID` and a
nested `MLFLOW_RUN_ID` for each task: then that run is the step's. A step never fails because of its record.
"""

import base64
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from modelyard.errors import BadInput, ModelyardError, Unavailable
from modelyard.record import record

JOB = "modelyard.job"
"""Tag of all runs of one pipeline run: the id that Kubeflow gave it."""
STEP = "modelyard.step"
PARENT = "mlflow.parentRunId"
TOLD = "modelyard.stages"
"""Tag of a step's run: what it knows of each stage, as JSON."""
TIMEOUT_S = 10.0
PAGES = 20
TAG = 8000
"""Characters that a tag of MLflow holds."""
Status = Literal["FINISHED", "FAILED", "KILLED"]


@record
class TrackedRun:
    """A run, as MLflow tells of it."""

    id: str
    status: str
    started_at: float
    tags: Mapping[str, str]


class Runs:
    """The runs of one experiment."""

    def __init__(self, uri: str, *, experiment: str, experiment_id: str = "") -> None:
        if not uri.startswith(("http://", "https://")):
            raise BadInput(f"MLFLOW_TRACKING_URI: {uri} is no server's address", do="write it like https://host")
        self.uri = uri.rstrip("/")
        self._headers = _headers()
        self._name = experiment
        self._experiment = experiment_id

    @property
    def experiment(self) -> str:
        """Its id; made when there is none of that name."""
        if not self._experiment:
            found = self._ask("GET", "experiments/get-by-name", missing={}, experiment_name=self._name)
            if not found:
                found = self._ask("POST", "experiments/create", missing={}, name=self._name)
                self._experiment = found.get("experiment_id") or self.experiment  # another one made it a moment ago
            else:
                self._experiment = found["experiment"]["experiment_id"]
        return self._experiment

    def page(self, run_id: str) -> str:
        """The address of a run in MLflow's UI."""
        return f"{self.uri}/#/experiments/{self.experiment}/runs/{run_id}"

    def of_job(self, job: str) -> tuple[TrackedRun, ...]:
        """All runs of a pipeline run, oldest first."""
        found: list[TrackedRun] = []
        token = ""
        for _ in range(PAGES):
            page = self._ask(
                "POST",
                "runs/search",
                experiment_ids=[self.experiment],
                filter=f"tags.`{JOB}` = '{job}'",
                max_results=200,
                **({"page_token": token} if token else {}),
            )
            found += [_run(one) for one in page.get("runs", ())]
            token = page.get("next_page_token") or ""
            if not token:
                break
        return tuple(sorted(found, key=lambda one: one.started_at))

    def begin(self, job: str, step: str = "", *, parent: str = "") -> str:
        """A new run; gives its id."""
        tags = {JOB: job, STEP: step, "mlflow.runName": step or job, **({PARENT: parent} if parent else {})}
        made = self._ask(
            "POST",
            "runs/create",
            experiment_id=self.experiment,
            start_time=int(time.time() * 1000),
            run_name=step or job,
            tags=[{"key": key, "value": value} for key, value in tags.items() if value],
        )
        run_id: str = made["run"]["info"]["run_id"]
        return run_id

    def parent(self, job: str) -> str:
        """The run of the whole pipeline run; made by the first step that asks."""
        for one in self.of_job(job):
            if PARENT not in one.tags:
                return one.id
        return self.begin(job)

    def log(
        self,
        run_id: str,
        *,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> None:
        """Add tags, metrics and parameters."""
        at = int(time.time() * 1000)
        self._ask(
            "POST",
            "runs/log-batch",
            run_id=run_id,
            tags=[{"key": key, "value": value[:TAG]} for key, value in (tags or {}).items()],
            metrics=[{"key": k, "value": v, "timestamp": at, "step": 0} for k, v in (metrics or {}).items()],
            params=[{"key": key, "value": value[:6000]} for key, value in list((params or {}).items())[:100]],
        )

    def end(self, run_id: str, status: Status) -> None:
        """Close a run."""
        self._ask("POST", "runs/update", run_id=run_id, status=status, end_time=int(time.time() * 1000))

    def _ask(self, method: str, path: str, *, missing: Any = None, **given: Any) -> Any:
        """One request.

        Raises:
            Unavailable: no answer, or a refusal; `missing` is given instead where there is no such thing.
        """
        address, body = f"{self.uri}/api/2.0/mlflow/{path}", None
        if method == "GET":
            address += f"?{urlencode(given)}"
        else:
            body = json.dumps(given).encode()
        asked = Request(address, data=body, headers=self._headers, method=method)  # noqa: S310 - http and https alone
        try:
            with urlopen(asked, timeout=TIMEOUT_S) as said:  # noqa: S310
                return json.load(said)
        except HTTPError as error:
            if missing is not None and error.code in (400, 404):
                return missing
            told = error.read(300).decode("utf-8", "replace")
            do = "check MLFLOW_TRACKING_TOKEN" if error.code in (401, 403) else "see its log"
            raise Unavailable(f"MLflow at {self.uri} answered {error.code}: {told}", do=do) from None
        except OSError as error:
            raise Unavailable(f"MLflow at {self.uri} is away: {error}", do="start it and try again") from None
        except ValueError:
            raise Unavailable(f"{self.uri} answers no JSON", do="check MLFLOW_TRACKING_URI") from None


def _headers() -> dict[str, str]:
    """Who we are, from the variables that MLflow's own client reads."""
    found = {"Content-Type": "application/json"}
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        found["Authorization"] = f"Bearer {token}"
    elif user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        found["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    if workspace := os.environ.get("MLFLOW_WORKSPACE"):
        found["X-MLFLOW-WORKSPACE"] = workspace
    return found


class StepRun:
    """The run of one step; without an address, or while MLflow is away, nothing is recorded."""

    def __init__(self, runs: Runs | None, job: str, step: str) -> None:
        self._runs, self._given = runs, os.environ.get("MLFLOW_RUN_ID", "")
        self.id = ""
        self._job, self._step = job, step

    def log(self, **told: Any) -> None:
        """Tags, metrics, parameters, as `Runs.log` takes them."""
        with self._kept():
            if self._runs and self.id:
                self._runs.log(self.id, **told)

    @property
    def page(self) -> str:
        """Its address in MLflow's UI; empty where it is not recorded."""
        return self._runs.page(self.id) if self._runs and self.id else ""

    def begin(self) -> None:
        """Make it, or take the one that Kubeflow made."""
        with self._kept():
            if self._runs and self._given:
                self.id = self._given
                self._runs.log(self.id, tags={JOB: self._job, STEP: self._step})
            elif self._runs:
                self.id = self._runs.begin(self._job, self._step, parent=self._runs.parent(self._job))

    def end(self, status: Status) -> None:
        """Close it, unless Kubeflow does."""
        with self._kept():
            if self._runs and self.id and not self._given:
                self._runs.end(self.id, status)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except ModelyardError as error:
            print(f"not recorded in MLflow: {error}", flush=True)


def _run(found: Mapping[str, Any]) -> TrackedRun:
    info, data = found["info"], found.get("data", {})
    tags: Sequence[Mapping[str, str]] = data.get("tags", ())
    return TrackedRun(
        id=info["run_id"],
        status=str(info.get("status", "")),
        started_at=int(info.get("start_time") or 0) / 1000,
        tags={one["key"]: one.get("value", "") for one in tags},
    )
