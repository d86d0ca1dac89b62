"""The registry over MLflow: the one home of its client.

MLflow has no unique key but its own version numbers and no compare-and-swap on aliases. So one digest gets
one version by agreement: each writer creates, looks again, and gives way to the lowest number.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from modelyard.errors import BadInput, StageFailed, Tampered, Unavailable
from modelyard.registry.answers import AWAY, DIGEST, UNKNOWN, dangling, no_alias, served, version_of
from modelyard.registry.bundle import ARCHIVE, REPORTS, check_candidate, write_bundle
from modelyard.registry.names import check_alias, check_model
from modelyard.registry.port import AliasMoved, Candidate, Version
from modelyard.storage.atomic import digest_file, scratch
from modelyard.verdict import Verdict

# Read by MLflow at each request. Its own defaults retry for minutes; whoever asks us wants to know at once.
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}.items():
    os.environ.setdefault(_name, _value)

import mlflow  # noqa: E402 - after its settings
from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import LoggedModelStatus  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

T = TypeVar("T")
ABANDONED_S = 120.0
"""A doubled version of this age has no writer any more that would remove it."""


class MLflowRegistry:
    """`modelyard.registry.port.Registry` at a tracking server's address."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def register(self, candidate: Candidate) -> Version:
        """The one version with the candidate's digest; made if it is not there, also when two ask at once."""
        check_model(candidate.model)
        check_candidate(candidate)
        with self._asking():
            if there := self._with_digest(candidate):
                return self._winner(there, mine=None)
            self._ensure_model(candidate.model)
            model_id = self._upload(candidate)
            mine = self._create(candidate, model_id)
            winner = self._winner(self._with_digest(candidate), mine=mine)
            if winner.version != mine.version:
                self._client.delete_logged_model(model_id)
            return winner

    def versions(self, model: str) -> tuple[Version, ...]:
        """All versions of a model, oldest first."""
        check_model(model)
        with self._asking():
            return self._search(f"name = '{model}'")

    def resolve(self, model: str, alias: str) -> Version | Verdict:
        """What the alias names now, or why that is unknown; one request."""
        check_model(model)
        check_alias(alias)
        with self._asking():
            try:
                version = _version(self._client.get_model_version_by_alias(model, alias))
            except MlflowException as error:
                if error.error_code not in UNKNOWN:
                    raise
                return dangling(model, alias) if "Model Version" in str(error.message) else no_alias(model, alias)
        return served(version, alias)

    def move_alias(self, model: str, alias: str, version: str, *, expected: str | None) -> None:
        """Let the alias name `version`, if it names `expected` now."""
        check_model(model)
        check_alias(alias)
        with self._asking():
            if self._named(lambda: self._client.get_model_version(model, version)) is None:
                raise BadInput(f"{model} has no version {version}", do="name one that is registered")
            named = self._named(lambda: self._client.get_model_version_by_alias(model, alias))
            now = None if named is None else str(named.version)
            if now == version:
                return
            if now != expected:
                raise AliasMoved(alias, model, now=now, expected=expected)
            self._client.set_registered_model_alias(model, alias, version)

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Add or overwrite tags of a version."""
        check_model(model)
        with self._asking():
            if self._named(lambda: self._client.get_model_version(model, version)) is None:
                raise BadInput(f"{model} has no version {version}", do="name one that is registered")
            for name, value in tags.items():
                self._client.set_model_version_tag(model, version, name, value)

    def fetch(self, version: Version, into: Path) -> Path:
        """The archive of a version as a file below `into`, its digest verified."""
        final = into / f"{version.digest.removeprefix('sha256:')}.mar"
        if final.is_file() and digest_file(final) == version.digest:
            return final
        with scratch(final) as folder, self._asking():
            archive = self._download(version, folder)
            if (found := digest_file(archive)) != version.digest:
                raise Tampered(
                    f"The archive of version {version.version} of {version.model} has digest {found}, "
                    f"not {version.digest}",
                    do="do not serve it; find out who changed the registry's artifacts",
                )
            return archive.replace(final)

    def report(self, version: Version, name: str, into: Path) -> Path:
        """A report that was registered with a version, as a file below `into`."""
        with self._asking():
            found = self._artifact(version, f"{REPORTS}/{name}", into)
        if found is None or not found.is_file():
            raise BadInput(
                f"Version {version.version} of {version.model} has no {name}", do="name a version of a newer run"
            )
        return found

    def keep(self, version: Version, reports: Mapping[str, str]) -> None:
        """Keep further reports with a version, name → path; of an equal name the last one stays."""
        model_id = version.source.removeprefix("models:/")
        with self._asking():
            if self._named(lambda: self._client.get_logged_model(model_id)) is None:
                raise BadInput(f"Version {version.version} of {version.model} has no place for reports",
                               do="name a version that a run registered")  # fmt: skip
            with scratch(Path(tempfile.gettempdir()) / "modelyard-reports") as folder:
                (folder / REPORTS).mkdir()
                for name, path in reports.items():
                    shutil.copyfile(path, folder / REPORTS / name)
                self._client.log_model_artifacts(model_id, str(folder))

    # what killed registrations left

    def orphans(self) -> tuple[str, ...]:
        """Ids of models that a registration uploaded and, killed, never made a version of."""
        with self._asking():
            experiments = [each.experiment_id for each in self._client.search_experiments()]
            named = {version.source for version in self._search("")}
            models = [each for experiment in experiments for each in self._uploaded(experiment)]
        young = time.time() - ABANDONED_S
        return tuple(
            sorted(
                each.model_id
                for each in models
                if DIGEST in each.tags
                and f"models:/{each.model_id}" not in named
                and each.creation_timestamp / 1000 < young
            )
        )

    def forget(self, model_id: str) -> None:
        """Delete a model that no version names. Its files stay where the server keeps artifacts."""
        with self._asking():
            self._client.delete_logged_model(model_id)

    def _uploaded(self, experiment: str) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_logged_models([experiment], page_token=token)
            yield from page
            if not (token := page.token):
                return

    # one version for one digest

    def _with_digest(self, candidate: Candidate) -> tuple[Version, ...]:
        found = self._search(f"name = '{candidate.model}' and tags.`{DIGEST}` = '{candidate.digest}'")
        return tuple(version for version in found if version.digest == candidate.digest)

    def _winner(self, versions: tuple[Version, ...], *, mine: Version | None) -> Version:
        """The lowest number; who made another one removes it.

        Nobody else does while the maker may be alive: a freed number is given out again, to somebody else.
        """
        winner, *others = versions
        for other in others:
            abandoned = time.time() - other.created_at > ABANDONED_S
            if (mine and other.version == mine.version) or (abandoned and not self._aliases(other)):
                with suppress(MlflowException):
                    self._client.delete_model_version(other.model, other.version)
        return winner

    def _create(self, candidate: Candidate, model_id: str) -> Version:
        tags = {
            **candidate.tags,
            DIGEST: candidate.digest,
            **{f"modelyard.metric.{name}": f"{value:.6g}" for name, value in candidate.metrics.items()},
        }
        source, run = f"models:/{model_id}", candidate.run_id
        return _retried(
            lambda: _version(
                self._client.create_model_version(
                    candidate.model, source, run, tags=tags, model_id=model_id, await_creation_for=0
                )
            )
        )

    def _aliases(self, version: Version) -> list[str]:
        """Asked of the version itself: a search gives none (mlflow/mlflow #16734)."""
        found = self._named(lambda: self._client.get_model_version(version.model, version.version))
        return list(found.aliases) if found is not None else []

    def _ensure_model(self, name: str) -> None:
        try:
            self._client.create_registered_model(name, tags={"modelyard": "v1"})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    # artifacts

    def _upload(self, candidate: Candidate) -> str:
        """Store the candidate as a LoggedModel, and give its id."""
        made = self._client.create_logged_model(
            self._experiment(candidate),
            name=candidate.model,
            source_run_id=candidate.run_id,
            tags={DIGEST: candidate.digest},
            model_type="modelyard",
        )
        model_id: str = made.model_id
        try:
            with scratch(Path(tempfile.gettempdir()) / "modelyard-register") as folder:
                write_bundle(candidate, folder, model_id=model_id, mlflow_version=mlflow.__version__)
                self._client.log_model_artifacts(model_id, str(folder))
            self._client.finalize_logged_model(model_id, LoggedModelStatus.READY)
        except BaseException:
            with suppress(Exception):
                self._client.delete_logged_model(model_id)
            raise
        return model_id

    def _download(self, version: Version, folder: Path) -> Path:
        path = self._artifact(version, ARCHIVE, folder)
        if path is not None and (archives := sorted(path.rglob("*.mar"))):
            return archives[0]
        raise BadInput(
            f"Version {version.version} of {version.model} has no archive", do="register it again with modelyard run"
        )

    def _artifact(self, version: Version, name: str, folder: Path) -> Path | None:
        """A file or folder of a version, brought below `folder`; None where it is not there."""
        model_id = version.source.removeprefix("models:/")
        made = self._named(lambda: self._client.get_logged_model(model_id)) if model_id.startswith("m-") else None
        if made is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(MlflowException, OSError):
            place = f"{made.artifact_location}/{name}"
            return Path(mlflow.artifacts.download_artifacts(place, dst_path=str(folder), tracking_uri=self.uri))
        return None

    def _experiment(self, candidate: Candidate) -> str:
        """The training run's experiment, else one of the model's name."""
        if candidate.run_id:
            run: str = self._client.get_run(candidate.run_id).info.experiment_id
            return run
        if there := self._client.get_experiment_by_name(candidate.model):
            found: str = there.experiment_id
            return found
        try:
            made: str = self._client.create_experiment(candidate.model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._experiment(candidate)
        return made

    # asking

    def _search(self, query: str) -> tuple[Version, ...]:
        found, token = [], None
        while True:
            page = self._client.search_model_versions(query, max_results=200, page_token=token)
            found += [_version(one) for one in page]
            if not (token := page.token):
                return tuple(sorted(found, key=lambda version: int(version.version)))

    def _named(self, ask: Callable[[], T]) -> T | None:
        """What is asked for, or None where the registry knows no such thing."""
        try:
            return ask()
        except MlflowException as error:
            if error.error_code in UNKNOWN:
                return None
            raise

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn MLflow's ways to say that it is away into ours."""
        try:
            yield
        except MlflowException as error:
            if _is_away(error):
                raise Unavailable(
                    f"MLflow at {self.uri} is away: {str(error).splitlines()[0][:200]}", do="start it and try again"
                ) from error
            raise StageFailed(f"MLflow at {self.uri} refused: {error.message}", do="see the server's log") from error


def _is_away(error: MlflowException) -> bool:
    """Whether the server did not answer, or answered that it cannot now."""
    return str(error.message).startswith("API request to") or error.error_code in AWAY


def _retried(act: Callable[[], T]) -> T:
    """Once more where two writers met in the database."""
    for _ in range(4):
        with suppress(MlflowException):
            return act()
        time.sleep(0.2)
    return act()


def _version(found: Any) -> Version:
    source, created = found.source or "", found.creation_timestamp
    return version_of(found.name, str(found.version), source=source, tags=found.tags, created_ms=created)
