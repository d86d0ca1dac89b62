"""What is asked of a Kubeflow Pipelines server: four verbs, and the one implementation over its own client."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import httpx

from modelyard.errors import BadInput, Forbidden, ModelyardError, StageFailed, Unavailable
from modelyard.record import record

ENDPOINT = "KF_PIPELINES_ENDPOINT"
"""Variable of Kubeflow's own client: the server's address."""
TOKEN = "KF_PIPELINES_TOKEN"  # noqa: S105 - the name of a variable
SERVICE_ACCOUNT = Path("/var/run/secrets/kubeflow/pipelines/token")
"""Where Kubeflow mounts a pod's token for the server; `KF_PIPELINES_SA_TOKEN_PATH` names another place."""
_FORWARD = "kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888, and --endpoint http://127.0.0.1:8888"
_TIMEOUT_S = 10.0


@record
class TaskState:
    """A step of a run, as the server tells of it."""

    name: str
    state: str


@record
class RunState:
    """A run, as the server tells of it."""

    id: str
    state: str
    """PENDING, RUNNING, SUCCEEDED, FAILED, CANCELED, …"""
    tasks: tuple[TaskState, ...] = ()
    error: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


class Server(Protocol):
    """A Kubeflow Pipelines server.

    Raises everywhere: `Unavailable` when it cannot be reached, `Forbidden` when it refuses us.
    """

    def upload(self, file: Path, *, name: str, version: str) -> str:
        """Add a version of a pipeline, which is made if it is not there; gives the version's id."""

    def start(self, file: Path, *, name: str, parameters: Mapping[str, Any]) -> str:
        """Run a compiled pipeline once; gives the run's id."""

    def repeat(self, file: Path, *, name: str, cron: str, parameters: Mapping[str, Any]) -> str:
        """Run it again by the clock, one at a time, without catching up; gives the recurring run's id."""

    def state(self, run: str) -> RunState:
        """How a run stands."""


def connect(endpoint: str = "", *, namespace: str = "", account: str = "", root: str = "") -> "KfpServer":
    """The server at an address, once it is known to be one that we can talk to.

    The token is that of `KF_PIPELINES_TOKEN`, else the pod's own.

    Args:
        endpoint: its address; `KF_PIPELINES_ENDPOINT` or the cluster's own when empty.
        namespace: where runs belong, on a server of many users.
        account: service account of the runs.
        root: where artifacts go, like `s3://bucket/prefix`; the server's default when empty.

    Raises:
        BadInput: it is a server of 1.x, answers with a page (a login), or is no Kubeflow Pipelines at all.
        Forbidden: it refuses the token.
        Unavailable: nothing answers there.
    """
    inside = "KUBERNETES_SERVICE_HOST" in os.environ
    host = endpoint or os.environ.get(ENDPOINT, "") or ("http://ml-pipeline.kubeflow:8888" if inside else "")
    if not host:
        raise BadInput("no Kubeflow Pipelines server is named", do=f"give --endpoint or set {ENDPOINT}: {_FORWARD}")
    if not host.startswith(("http://", "https://")):
        raise BadInput(f"{host} is no address", do="write it like https://kubeflow.example.com/pipeline")
    check(host.rstrip("/"), _token())
    return KfpServer(host.rstrip("/"), token=_token(), namespace=namespace, account=account, root=root)


def check(host: str, token: str) -> None:
    """Ask a server who it is; raises as `connect` does."""
    said = _asked(f"{host}/apis/v2beta1/healthz", token)
    if said.status_code in (401, 403):
        raise Forbidden(
            f"{host} refuses us ({said.status_code})",
            do=f"set {TOKEN} to a token for it, or run where the pod has one ({SERVICE_ACCOUNT})",
        )
    page = "html" in said.headers.get("content-type", "") or said.text.lstrip()[:1] == "<"
    if said.is_redirect or page:
        where = said.headers.get("location", "")
        raise BadInput(
            f"{host} answers with a page{f' at {where}' if where else ''}, most likely a login",
            do=f"set {TOKEN}, or go past it: {_FORWARD}",
        )
    if said.status_code == httpx.codes.NOT_FOUND:
        if _asked(f"{host}/apis/v1beta1/healthz", token).is_success:
            raise BadInput(
                f"{host} is Kubeflow Pipelines 1.x, which cannot run this pipeline",
                do="upgrade it to 2.x, or name a server that is",
            )
        raise BadInput(f"{host} is no Kubeflow Pipelines server (no /apis/v2beta1)", do="correct --endpoint")
    if not said.is_success:
        raise Unavailable(f"{host} answered {said.status_code}", do="see its log and try again")


class KfpServer:
    """`Server` over `kfp.Client`."""

    def __init__(self, host: str, *, token: str, namespace: str, account: str, root: str) -> None:
        self.host = host
        self._namespace, self._account, self._root = namespace, account, root
        with _quietly(host):
            from kfp.client import Client  # noqa: PLC0415

            self._client = Client(
                host=host, existing_token=token or None, **({"namespace": namespace} if namespace else {})
            )

    def page(self, run: str) -> str:
        """The address of a run in the UI."""
        return f"{self.host}/#/runs/details/{run}"

    def upload(self, file: Path, *, name: str, version: str) -> str:
        """Add a version of a pipeline; see the port."""
        with _quietly(self.host):
            there = self._client.get_pipeline_id(name)
            if there is None:
                namespace = self._namespace or None
                there = self._client.upload_pipeline(str(file), pipeline_name=name, namespace=namespace).pipeline_id
            known = self._client.list_pipeline_versions(there, page_size=100, sort_by="created_at desc")
            same = [one for one in known.pipeline_versions or () if one.display_name == version]
            if same:
                return str(same[0].pipeline_version_id)
            found = self._client.upload_pipeline_version(str(file), pipeline_version_name=version, pipeline_id=there)
            return str(found.pipeline_version_id)

    def start(self, file: Path, *, name: str, parameters: Mapping[str, Any]) -> str:
        """Run a compiled pipeline once; see the port."""
        with _quietly(self.host):
            made = self._client.run_pipeline(
                experiment_id=self._experiment(str(parameters["model"])),
                job_name=name,
                pipeline_package_path=str(file),
                params=dict(parameters),
                pipeline_root=self._root or None,
                service_account=self._account or None,
            )
            return str(made.run_id)

    def repeat(self, file: Path, *, name: str, cron: str, parameters: Mapping[str, Any]) -> str:
        """Run it again by the clock; see the port."""
        with _quietly(self.host):
            made = self._client.create_recurring_run(
                experiment_id=self._experiment(str(parameters["model"])),
                job_name=name,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                params=dict(parameters),
                pipeline_package_path=str(file),
                pipeline_root=self._root or None,
                service_account=self._account or None,
            )
            return str(made.recurring_run_id)

    def state(self, run: str) -> RunState:
        """How a run stands; see the port."""
        with _quietly(self.host):
            found = self._client.get_run(run)
        details = found.run_details.task_details if found.run_details else None
        tasks = tuple(TaskState(name=str(one.display_name), state=str(one.state or "PENDING")) for one in details or ())
        error = str(getattr(found.error, "message", "") or "")
        return RunState(id=run, state=str(found.state or "PENDING"), tasks=tasks, error=error)

    def _experiment(self, name: str) -> str:
        return str(self._client.create_experiment(name, namespace=self._namespace or None).experiment_id)


def _token() -> str:
    path = Path(os.environ.get("KF_PIPELINES_SA_TOKEN_PATH", str(SERVICE_ACCOUNT)))
    if token := os.environ.get(TOKEN, ""):
        return token
    return path.read_text().strip() if path.is_file() else ""


def _asked(address: str, token: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        return httpx.get(address, headers=headers, timeout=_TIMEOUT_S)
    except httpx.HTTPError as error:
        raise Unavailable(f"nothing answers at {address}: {error}", do=f"correct --endpoint; {_FORWARD}") from None


@contextlib.contextmanager
def _quietly(host: str) -> Iterator[None]:
    """Kubeflow's client prints links between lines of data, and raises what its generator thought of."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except ModelyardError:
            raise
        except Exception as error:
            raise _explained(host, error) from error


def _explained(host: str, error: Exception) -> ModelyardError:
    status, body = getattr(error, "status", None), str(getattr(error, "body", "") or error)[:300]
    if status in (401, 403):
        return Forbidden(f"{host} refuses us: {body}", do="ask for the rights, or give another token")
    if status == httpx.codes.NOT_FOUND:
        return BadInput(f"{host} knows no such thing: {body}", do="see its UI for the names there are")
    if status is None and not isinstance(error, ValueError | TypeError):
        return Unavailable(f"{host} is away: {type(error).__name__} {body}", do="try again")
    return StageFailed(f"{host} refused: {body}", do="see its log")
