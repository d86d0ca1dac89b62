"""The init container: fetch a version's archive by its digest, and verify it before anything can serve it.

`python -m modelyard.serving.fetch --tracking-uri https://mlflow.example.com --model digits --version 7
--digest sha256:… --out /models/model.mar` asks MLflow where the archive lies and takes it from there: from S3 (the
AWS_* variables), or through MLflow's artifact proxy. An archive that is there already, and whose digest fits, needs no
registry at all.

Why it failed stands in the pod's status, as JSON: `{"reason": "DigestMismatch", "message": "…"}`; the exit code is
65 (the bytes or their signature), 66 (no such archive), 75 (something is away: kubelet tries again) or 1.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from modelyard.errors import BadInput, ModelyardError, Tampered, Unavailable
from modelyard.serving.signature import verify_signature
from modelyard.storage.atomic import digest_file, scratch
from modelyard.verdict import Reason

TERMINATION_LOG: Final = Path("/dev/termination-log")
"""Where kubelet reads why a container ended."""
ARCHIVE: Final = "archive"
"""Folder of the `.mar` among a version's artifacts; `modelyard.registry.bundle` writes it."""
DATA, NO_INPUT, TEMPORARY = 65, 66, 75
"""Exit codes, as sysexits.h has them."""
PATIENCE_S = 60.0
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)


class Source:
    """MLflow over its REST API: where a version's archive lies, and its bytes.

    https://mlflow.org/docs/latest/api_reference/rest-api.html
    """

    def __init__(self, uri: str, *, workspace: str = "", environment: Mapping[str, str]) -> None:
        self._uri = uri.rstrip("/")
        headers = {"X-MLFLOW-WORKSPACE": workspace} if workspace else {}
        user, token = environment.get("MLFLOW_TRACKING_USERNAME"), environment.get("MLFLOW_TRACKING_TOKEN")
        if token:
            headers["Authorization"] = f"Bearer {token}"
        basic = (user, environment.get("MLFLOW_TRACKING_PASSWORD", "")) if user and not token else None
        self._client = httpx.Client(headers=headers, auth=basic, timeout=_TIMEOUT, follow_redirects=True)

    def fetch(self, model: str, version: str, out: Path) -> None:
        """Write the version's archive to `out`, unverified.

        Raises:
            BadInput: there is no such version, it has no archive, or it lies where a pod cannot reach it.
            Unavailable: MLflow or the bucket is away.
        """
        place = self._place(model, version)
        scheme = urlsplit(place).scheme
        if scheme == "s3":
            _from_s3(f"{place}/{ARCHIVE}", out)
        elif scheme == "mlflow-artifacts":
            self._through_proxy(urlsplit(place).path.strip("/") + f"/{ARCHIVE}", out)
        else:
            raise BadInput(
                f"the archive of version {version} of {model} lies at {place}, which no pod reaches",
                do="let MLflow serve artifacts (--serve-artifacts), or keep them in S3",
            )

    def _place(self, model: str, version: str) -> str:
        """The address of the version's artifacts."""
        found = self._ask("model-versions/get", name=model, version=version)["model_version"]
        source = str(found.get("source") or "")
        name = source.removeprefix("models:/")
        if not source.startswith("models:/m-"):
            raise BadInput(f"version {version} of {model} was not registered by us ({source!r})", do="register it anew")
        logged = self._ask(f"logged-models/{quote(name, safe='')}")["model"]["info"]
        return str(logged["artifact_uri"]).rstrip("/")

    def _through_proxy(self, folder: str, out: Path) -> None:
        root = f"{self._uri}/api/2.0/mlflow-artifacts/artifacts"
        listed = self._json(root, path=folder).get("files", [])
        name = _the_archive((str(one["path"]) for one in listed if not one.get("is_dir")), folder)
        try:
            with self._client.stream("GET", f"{root}/{quote(folder)}/{quote(name)}") as answer, out.open("wb") as file:
                self._refuse(answer)
                for part in answer.iter_bytes(1 << 20):
                    file.write(part)
        except httpx.HTTPError as error:
            raise self._away(error) from None

    def _ask(self, path: str, **query: str) -> Any:
        return self._json(f"{self._uri}/api/2.0/mlflow/{path}", **query)

    def _json(self, url: str, **query: str) -> Any:
        try:
            answer = self._client.get(url, params=query)
            self._refuse(answer)
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise self._away(error) from None

    def _refuse(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        code, what = answer.status_code, f"MLflow at {self._uri} answered {answer.status_code} for {answer.url.path}"
        if code in (400, 404):
            raise BadInput(what, do="check that the version and its archive are there")
        if code in (401, 403):
            raise Unavailable(what, do="check the Secret that the ModelRegistry names")
        raise Unavailable(what, do="it is asked again")

    def _away(self, error: Exception) -> Unavailable:
        return Unavailable(f"MLflow at {self._uri} is away: {type(error).__name__} {error}", do="it is asked again")


def fetch(
    source: Source,
    *,
    model: str,
    version: str,
    digest: str,
    out: Path,
    trusted: Sequence[str] = (),
    signature_required: bool = False,
) -> None:
    """Let `out` be the version's archive, its digest verified; its signature where keys are trusted or it is required.

    Raises:
        Tampered: its bytes differ from the digest, or its signature is missing or by nobody who is trusted.
        BadInput: there is no such archive.
        Unavailable: where it lies is away.
    """
    if not (out.is_file() and digest_file(out) == digest):
        with scratch(out) as folder:
            fetched = folder / out.name
            source.fetch(model, version, fetched)
            if (found := digest_file(fetched)) != digest:
                raise Tampered(
                    f"the archive of version {version} of {model} has digest {found}, not {digest}",
                    do="find out who changed the registry's artifacts",
                )
            fetched.replace(out)
    if signature_required or trusted:
        verify_signature(out, trusted, required=signature_required)


def _from_s3(address: str, out: Path) -> None:
    from modelyard.storage.s3 import S3Store  # noqa: PLC0415  (its import takes half a second)

    store = S3Store(address)
    name = _the_archive((each.key for each in store.list()), address)
    with store.opened(name) as path:
        shutil.copyfile(path, out)


def _the_archive(paths: Any, folder: str) -> str:
    archives = sorted(path for path in paths if path.endswith(".mar"))
    if not archives:
        raise BadInput(f"there is no archive in {folder}", do="register the version again with modelyard run")
    return PurePosixPath(archives[0]).name


def _judged(error: ModelyardError) -> tuple[int, Reason]:
    """The exit code and the reason that stands in the rollout's verdict."""
    if isinstance(error, Tampered):
        return DATA, Reason.DIGEST_MISMATCH
    if isinstance(error, Unavailable):
        return TEMPORARY, Reason.REGISTRY_UNAVAILABLE
    if isinstance(error, BadInput):
        return NO_INPUT, Reason.ARTIFACT_MISSING
    return 1, Reason.CANARY_UNAVAILABLE


def say_why(reason: Reason, message: str, *, file: Path = TERMINATION_LOG) -> None:
    """Leave a reason where kubelet reads it; at most 4096 bytes reach the pod's status."""
    print(message, file=sys.stderr)  # noqa: T201  the container's log
    if file.exists():
        file.write_text(json.dumps({"reason": reason.value, "message": message[:2000]}))


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="modelyard.serving.fetch", description=__doc__.partition("\n")[0])
    for name in ("--tracking-uri", "--model", "--version", "--digest"):
        parser.add_argument(name, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workspace", default="")
    parser.add_argument("--trust", action="append", default=[], help="a public key, base64; may be repeated")
    parser.add_argument("--require-signature", action="store_true")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, help="seconds to wait for what is away")
    parser.add_argument("--termination-log", type=Path, default=TERMINATION_LOG)
    given = parser.parse_args(argv)
    source = Source(given.tracking_uri, workspace=given.workspace, environment=os.environ)
    deadline, pause = time.monotonic() + given.patience, 0.5
    while True:
        try:
            fetch(
                source,
                model=given.model,
                version=given.version,
                digest=given.digest,
                out=given.out,
                trusted=given.trust,
                signature_required=given.require_signature,
            )
            return 0
        except ModelyardError as error:
            code, reason = _judged(error)
            if code != TEMPORARY or time.monotonic() + pause > deadline:
                say_why(reason, str(error), file=given.termination_log)
                return code
        time.sleep(pause)
        pause = min(pause * 2, 10.0)


if __name__ == "__main__":
    sys.exit(main())
