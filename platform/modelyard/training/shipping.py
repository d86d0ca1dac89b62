"""How a training travels between the launcher and its pods: by digest, through the artifact store.

    code/<sha256>.tar                   as packed
    data/<sha256>/…                     shards and prepared.json, named by the data's fingerprint
    weights/<sha256>.safetensors        what training begins with
    trainings/<name>/job.json           what is trained; its digest is the training's key
    trainings/<name>/checkpoints/…      where no claim keeps them; `state.json` last
    trainings/<name>/logs/…             of each pod, as it was written
    trainings/<name>/result/…           what came of it; `done.json`, with the digest of each file, last

Whatever stands under a digest is verified where it is read, and what stands last is what counts: a reader never sees
a half.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from modelyard.data.prepared import FILE as PREPARED
from modelyard.data.prepared import PreparedData, load_prepared
from modelyard.errors import BadInput, Tampered
from modelyard.spec.codec import from_json, to_json
from modelyard.storage.atomic import digest_bytes, digest_file, scratch, write_bytes, write_text
from modelyard.storage.port import Store
from modelyard.training.job import TrainJob, Weights

DONE = "done.json"
STATE = "state.json"


def sealed(job: TrainJob) -> str:
    """The job as JSON without what is of one machine only: where its files lie and where curves go."""
    weights = job.weights and Weights(path="", digest=job.weights.digest or digest_file(Path(job.weights.path)))
    return to_json(replace(job, data="", code="", tracking=None, weights=weights))


def key_of(job: TrainJob) -> str:
    """The digest of what is trained: equal jobs have equal keys, wherever they are started."""
    return digest_bytes(sealed(job).encode())


def publish(job: TrainJob, store: Store, name: str) -> None:
    """Put everything that the pods need into the store, unless it is there; `job.json` last.

    Raises:
        BadInput: the store refuses us, or a file is not there.
        Unavailable: the store is away.
    """
    place = f"trainings/{name}/job.json"
    if _there(store, place):
        return
    _put(store, f"code/{_hex(job.code_digest)}.tar", Path(job.code))
    if job.weights:
        path = Path(job.weights.path)
        _put(store, f"weights/{_hex(job.weights.digest or digest_file(path))}.safetensors", path)
    _publish_data(Path(job.data), store)
    with scratch(Path(job.data) / "job.json") as folder:
        (folder / "job.json").write_text(sealed(job), "utf-8")
        store.write(place, folder / "job.json", once=True)


def _publish_data(folder: Path, store: Store) -> None:
    prepared = load_prepared(folder)
    root = f"data/{_hex(prepared.fingerprint)}"
    if _there(store, f"{root}/{PREPARED}"):
        return
    if not prepared.location:
        for shard in {shard.name for shards in prepared.splits.values() for shard in shards}:
            _put(store, f"{root}/{shard}", folder / shard)
    store.write(f"{root}/{PREPARED}", folder / PREPARED)


def receive(store: Store, name: str, key: str, into: Path) -> TrainJob:
    """Fetch job, code and the record of the data, each verified; shards stay where they are and are read as needed.

    Returns:
        The job with the places of this machine; also written to `into/job.json`.

    Raises:
        Tampered: something is not what its digest says.
        BadInput: something is not there.
        Unavailable: the store is away.
    """
    text = store.read(f"trainings/{name}/job.json")
    if (found := digest_bytes(text)) != key:
        raise Tampered(f"the job of {name} has digest {found}, not {key}", do="find out who changed the store")
    job = from_json(TrainJob, text, where="job.json")
    code = _get(store, f"code/{_hex(job.code_digest)}.tar", into / "code.tar", job.code_digest)
    data = into / "data"
    root = f"data/{_hex(job.data_fingerprint)}"
    prepared = from_json(PreparedData, store.read(f"{root}/{PREPARED}"), where=PREPARED)
    if prepared.fingerprint != job.data_fingerprint:
        raise Tampered(f"{root} holds data {prepared.fingerprint}", do="prepare the data again")
    located = replace(prepared, location=prepared.location or f"{store.uri.rstrip('/')}/{root}")
    write_text(data / PREPARED, to_json(located))
    weights = job.weights
    if weights and weights.digest:
        key_ = f"weights/{_hex(weights.digest)}.safetensors"
        weights = replace(weights, path=str(_get(store, key_, into / "weights.safetensors", weights.digest)))
    received = replace(job, data=str(data), code=str(code), weights=weights)
    write_text(into / "job.json", to_json(received))
    return received


def hand_in(out: Path, store: Store, name: str, files: Mapping[str, Path]) -> None:
    """Put the result into the store, `done.json` last; `files` by their name in the result."""
    root = f"trainings/{name}/result"
    for relative, path in files.items():
        store.write(f"{root}/{relative}", path)
    digests = {relative: digest_file(path) for relative, path in files.items()}
    done = out / DONE
    write_text(done, json.dumps(digests, indent=1, sort_keys=True))
    store.write(f"{root}/{DONE}", done)


def collect(store: Store, name: str, out: Path) -> bool:
    """Fetch the result into `out`, each file verified; gives whether there is one.

    Raises:
        Tampered: a file is not what was handed in.
    """
    root = f"trainings/{name}/result"
    if not _there(store, f"{root}/{DONE}"):
        return False
    listed: Mapping[str, str] = json.loads(store.read(f"{root}/{DONE}"))
    for relative, digest in listed.items():
        if Path(relative).is_absolute() or ".." in Path(relative).parts:
            raise Tampered(f"the result of {name} names {relative!r}", do="find out who changed the store")
        _get(store, f"{root}/{relative}", out / relative, digest)
    return True


def save_checkpoint(folder: Path, store: Store, name: str) -> None:
    """Put a finished checkpoint into the store, `state.json` last."""
    root = f"trainings/{name}/checkpoints/{folder.name}"
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != STATE:
            store.write(f"{root}/{path.relative_to(folder).as_posix()}", path)
    store.write(f"{root}/{STATE}", folder / STATE)


def restore_checkpoint(store: Store, name: str, checkpoints: Path) -> str | None:
    """Fetch the newest whole checkpoint into the folder `checkpoints`; gives its name.

    The trainer verifies each file by the digests in `state.json` before it opens any.
    """
    root = f"trainings/{name}/checkpoints/"
    keys = [stored.key for stored in store.list(root)]
    whole = sorted(key.removeprefix(root).partition("/")[0] for key in keys if key.endswith(f"/{STATE}"))
    if not whole:
        return None
    newest = whole[-1]
    if not (checkpoints / newest).is_dir():
        with scratch(checkpoints / newest) as folder:
            for key in (key for key in keys if key.startswith(f"{root}{newest}/")):
                target = folder / "checkpoint" / key.removeprefix(f"{root}{newest}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                with store.opened(key) as path:
                    shutil.copyfile(path, target)
            (folder / "checkpoint").rename(checkpoints / newest)
    return newest


def files_below(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    """The files of a folder by their name in a result."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"{prefix}/{path.relative_to(folder).as_posix()}", path


def _get(store: Store, key: str, target: Path, digest: str) -> Path:
    if target.is_file() and digest_file(target) == digest:
        return target
    with store.opened(key) as path:
        if (found := digest_file(path)) != digest:
            raise Tampered(f"{key} in {store.uri} has digest {found}, not {digest}",
                           do="find out who changed the store")  # fmt: skip
        with scratch(target) as folder:
            shutil.copyfile(path, folder / target.name)
            (folder / target.name).replace(target)
    return target


def _put(store: Store, key: str, path: Path) -> None:
    if not path.is_file():
        raise BadInput(f"there is no file {path}", do="run the stage before this one again")
    if not _there(store, key):  # which costs less than sending gigabytes to hear that they are there
        store.write(key, path, once=True)


def _there(store: Store, key: str) -> bool:
    return any(stored.key == key for stored in store.list(key))


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def read_json(store: Store, key: str) -> dict[str, int]:
    """A small record of a node; empty where there is none."""
    with suppress(BadInput, ValueError):
        found: dict[str, int] = json.loads(store.read(key))
        return found
    return {}


def write_json(store: Store, key: str, record: Mapping[str, int], beside: Path) -> None:
    """Keep a small record of a node."""
    write_bytes(beside, json.dumps(record).encode())
    store.write(key, beside)
