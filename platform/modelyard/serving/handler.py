"""The handler inside each model archive: TorchServe's worker calls it, and it trusts nothing before its digest.

It stands alone: the archive carries this file as `modelyard_handler.py` and, beside it, the `modelyard.model` that
evaluated the model. The server tells by environment which manifest was verified, so that a worker that
is started again an hour later still serves the same bytes, or none.

    MODELYARD_MANIFEST   sha256 of the manifest that the server verified
    MODELYARD_MODEL      `model`, or `fallback` on a node of another type than the variant was chosen for
    MODELYARD_WORKERS    folder where each worker tells how it fares: `events.jsonl`, and a byte `busy.<pid>`
"""

import hashlib
import json
import logging
import mmap
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
NOT_LISTED = (MANIFEST, "manifest.sig")
CLASS_HEADER = "x-modelyard-class"
MOST_CLASSES = 100
"""Router and server count the answers of each class: of a model with more none is told."""
LONGEST_CLASS = 200


_worker: "Worker | None" = None


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[bytes]:
    """What TorchServe calls: once without data to load the model, then for each batch."""
    global _worker  # noqa: PLW0603  (TorchServe's contract: a function and the module around it)
    if _worker is None:
        _worker = Worker(Path(context.system_properties["model_dir"]))
    return [] if data is None else _worker.handle(data, context)


class BadBody(ValueError):
    """A request without a body, or with one that is not what its content type says."""


class Worker:
    """One model in one worker."""

    def __init__(self, home: Path) -> None:
        """Verify, load, answer one golden request (the first is slow), then report for work."""
        try:
            manifest = verify(home, os.environ.get("MODELYARD_MANIFEST"))
            sys.path.insert(0, str(home))
            from modelyard.model import predictor  # noqa: PLC0415  (not before it was verified)

            came_from = Path(predictor.__file__ or "").resolve()
            if not came_from.is_relative_to(home.resolve()):
                raise RuntimeError(f"modelyard.model came from {came_from}, not from the archive in {home}")
            self._client_errors = (BadBody, predictor.RequestError)
            work = Path(tempfile.gettempdir()) / "unpacked"
            folder = os.environ.get("MODELYARD_MODEL", "model")
            fits = manifest if folder == "model" else manifest["fallback"]
            self._predictor: Any = predictor.Predictor.load(home / folder, work=work, expected=fits["model"])
            self.variant = str(fits["variant"])
            self._classes = class_headers(self._predictor.recipe.facts.classes)
            self._warm_up(home / ("golden.json" if folder == "model" else "fallback.json"))
        except BaseException as error:
            _tell("failed", error=f"{type(error).__name__}: {error}")
            raise
        self._busy: Any = _busy_byte()
        # each prediction would print lines that Java parses and nobody reads: the router counts
        logging.getLogger("ts.metrics").setLevel(logging.WARNING)
        logging.getLogger().addFilter(lambda line: line.module != "otf_message_handler")
        _tell("started", variant=self.variant)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch: for each request its own status, so that a bad one fails alone."""
        self._busy[0] = 1
        try:
            return self._handle(data, context)
        finally:
            self._busy[0] = 0

    def _handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        requests = [_body(item, context, index) for index, item in enumerate(data)]
        readable = [index for index, request in enumerate(requests) if not isinstance(request, BadBody)]
        answers: list[Any] = [(request, None) for request in requests]
        for index, answered in zip(
            readable, self._predictor.answered([requests[index] for index in readable]), strict=True
        ):
            answers[index] = answered
        return [self._response(answer, label, context, index) for index, (answer, label) in enumerate(answers)]

    def _response(self, answer: Any, label: str | None, context: Any, index: int) -> bytes:
        status, phrase, content = 200, "OK", answer
        if isinstance(answer, self._client_errors):
            status, phrase, content = 400, "Bad Request", {"error": str(answer)}
        elif isinstance(answer, Exception):
            logger.error("request %s failed", context.get_request_id(index), exc_info=answer)
            status, phrase, content = 500, "Internal Server Error", {"error": "the model could not answer"}
        context.set_response_status(code=status, phrase=phrase, idx=index)
        context.set_response_content_type(index, "application/json")
        context.set_response_header(index, "x-modelyard-variant", self.variant)
        if status == 200 and label in self._classes:
            context.set_response_header(index, CLASS_HEADER, self._classes[label])
        return json.dumps(content, allow_nan=False).encode()

    def _warm_up(self, recorded: Path) -> None:
        golden = json.loads(recorded.read_text("utf-8"))["requests"]
        for request in golden[:1]:
            if request["contentType"] == "application/json":
                self._predictor.answers([request["body"]])


def verify(home: Path, expected: str | None) -> dict[str, Any]:
    """Check each unpacked file against the manifest, and the manifest against what the server verified.

    Raises:
        RuntimeError: something is missing, was changed or does not belong there.
    """
    text = (home / MANIFEST).read_bytes()
    if expected is not None and (found := _sha256(text)) != expected:
        raise RuntimeError(f"{MANIFEST} has digest {found}, not {expected}: the unpacked archive was changed")
    manifest: dict[str, Any] = json.loads(text)
    for name, digest in manifest["files"].items():
        path = home / name
        if not path.is_file() or _sha256(path.read_bytes()) != digest:
            raise RuntimeError(f"{name} is missing or differs from its digest: the unpacked archive was changed")
    for path in home.rglob("*"):
        name = path.relative_to(home).as_posix()
        if not path.is_dir() and name not in manifest["files"] and name not in NOT_LISTED:
            raise RuntimeError(f"{name} does not belong into the unpacked archive")
    return manifest


def _body(item: dict[str, Any], context: Any, index: int) -> Any:
    """The request as the recipe takes it: parsed where it says that it is JSON, else bytes."""
    name = next((name for name in ("body", "data") if name in item), None)
    kind = _content_type(context.get_all_request_header(index), name)
    if name is None:
        if kind.startswith("application/x-www-form-urlencoded"):  # of `curl -d`, whose JSON the server took for fields
            return BadBody("the request came as a form. Name its type: Content-Type: application/json or image/png.")
        return BadBody("the request has no body. Send JSON or the bytes of an image.")
    body = item[name]
    if not isinstance(body, (bytes, bytearray)):
        return body  # parsed by a TorchServe with decode_input_request
    if not kind.startswith("application/json"):
        return bytes(body)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        return BadBody(f"the request is not JSON, though its content type says so ({error}). Send a JSON object.")


def class_headers(classes: list[str]) -> dict[str, str]:
    """How each class is told in a header: letters, digits, `_` and `~`, all else as %XX; none where one cannot be."""
    if len(classes) > MOST_CLASSES:
        return {}
    told = {name: quote(name, safe="").replace("-", "%2D").replace(".", "%2E") for name in classes}
    return told if all(0 < len(value) <= LONGEST_CLASS for value in told.values()) else {}


def _content_type(headers: Any, name: str | None) -> str:
    """What the request says that it is, in lower case: of its part `name`, else of the whole."""
    declared = headers.get(name) or {}
    kind = declared.get("content-type") or headers.get("content-type") or headers.get("Content-Type") or b""
    return (kind.decode("latin-1") if isinstance(kind, bytes) else str(kind)).lower()


def _tell(event: str, **more: str) -> None:
    folder = os.environ.get("MODELYARD_WORKERS")
    if folder:
        line = json.dumps({"event": event, "pid": os.getpid(), "at": time.time(), **more}) + "\n"
        with (Path(folder) / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(line)


def _busy_byte() -> Any:
    """A byte that the server can read: 1 while a request is being answered."""
    folder = os.environ.get("MODELYARD_WORKERS")
    if not folder:
        return bytearray(1)
    path = Path(folder) / f"busy.{os.getpid()}"
    path.write_bytes(b"\0")
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 1)


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
