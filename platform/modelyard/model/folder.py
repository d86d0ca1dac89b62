"""The model folder: one layout for evaluation, compression, serving and `mlflow.pyfunc`.

`model.json` describes a model and names the digest of each other file, so its own digest stands for the
whole. Nothing is opened before its digest was verified, for `.pt2` and TorchScript files can run code, and
weights are safetensors only: pickles are refused by their format, whatever they are called.

    model.json        kind, recipe, facts, inputs, threads, sample, files → digests
    code.tar          the user's code (absent for a recipe of ours)
    model.safetensors | model.ts | model.onnx | model.pt2
"""

import hashlib
import json
import secrets
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self, get_args

from modelyard.model.facts import Facts, RecipeError

Kind = Literal["eager", "torchscript", "onnx", "exported"]
FILES: Mapping[str, str] = {
    "eager": "model.safetensors",
    "torchscript": "model.ts",
    "onnx": "model.onnx",
    "exported": "model.pt2",
}
"""Kind → name of its file."""
CODE_LIMIT_BYTES = 200 * 1000 * 1000


class FolderError(RecipeError):
    """A model folder cannot be used."""


class ChangedError(FolderError):
    """Bytes of a model folder differ from the digest that they should have."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What `model.json` says."""

    kind: Kind
    file: str
    variant: str = "fp32"
    recipe: dict[str, Any]
    """`{"use": "recipe.py:Digits", "with": {…}}`."""
    facts: dict[str, Any]
    """JSON of `modelyard.model.facts.Facts`."""
    code: str | None = None
    inputs: list[str]
    """Columns of a batch in the order that the model takes them."""
    files: dict[str, str]
    """Path inside the folder → `sha256:…`, for every file but `model.json`."""
    threads: int = 1
    """Threads within one operation, while serving and while measuring."""
    sample: dict[str, Any] = field(default_factory=dict)
    """Input → `{"shape", "dtype"}` of one example, without the batch's dimension."""

    @classmethod
    def from_json(cls, data: object, where: Path) -> Self:
        """Check `data` and make a description of it.

        Raises:
            FolderError: a field is missing, unknown or of another type.
        """
        do = "make the folder again with write_model_folder"
        if not isinstance(data, dict):
            raise FolderError(f"{where} holds no JSON object", do=do)
        if strange := sorted(set(data) - set(cls.__dataclass_fields__)):
            raise FolderError(f"{where} has the unknown fields {', '.join(strange)}", do=do)
        wanted = {"kind": str, "file": str, "recipe": dict, "facts": dict, "inputs": list, "files": dict}
        for name, kind in wanted.items():
            if not isinstance(data.get(name), kind):
                raise FolderError(f"{where}: {name} is {data.get(name)!r:.40}, not a {kind.__name__}", do=do)
        made = cls(**data)
        if made.kind not in get_args(Kind):
            raise FolderError(f"{where}: kind is {made.kind!r}, not one of {', '.join(get_args(Kind))}", do=do)
        for name in (*made.files, made.file, *([made.code] if made.code else [])):
            inside = PurePosixPath(name)
            if inside.is_absolute() or ".." in inside.parts or name not in made.files:
                raise FolderError(f"{where} names {name!r}, which is no file of the folder with a digest", do=do)
        return made


def write_model_folder(
    out: Path,
    *,
    kind: Kind,
    model: Path,
    recipe: Mapping[str, Any],
    facts: Facts | Mapping[str, Any],
    inputs: Sequence[str],
    code: Path | None = None,
    variant: str = "fp32",
    threads: int = 1,
    sample: Mapping[str, Any] | None = None,
) -> str:
    """Write a model folder, whole or not at all; one that stands at `out` is replaced unless it is equal.

    Args:
        out: the folder to make.
        kind: what `model` is: safetensors for `eager`, else TorchScript, ONNX or a `.pt2`.
        model: the file with the weights or the program; copied.
        recipe: `{"use": …, "with": {…}}`.
        facts: what is known about the data.
        inputs: columns of a batch in the order that the model takes them.
        code: the code archive (`.tar`), if the recipe is in the user's file; copied.
        variant: name of the compressed form.
        threads: threads within one operation.
        sample: input → `{"shape", "dtype"}` of one example.

    Returns:
        The folder's digest.

    Raises:
        FolderError: a file is missing, or weights are a pickle.
    """
    for source in (model, code):
        if source is not None and not source.is_file():
            raise FolderError(f"{source} is no file", do="give the files that the training made")
    if kind == "eager":
        refuse_pickle(model)
    staged = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
    staged.mkdir(parents=True)
    try:
        shutil.copyfile(model, staged / FILES[kind])
        if code is not None:
            shutil.copyfile(code, staged / "code.tar")
        described = Description(
            kind=kind,
            file=FILES[kind],
            variant=variant,
            recipe={"use": recipe["use"], "with": dict(recipe.get("with") or {})},
            facts=facts.to_json() if isinstance(facts, Facts) else dict(facts),
            code="code.tar" if code is not None else None,
            inputs=list(inputs),
            files={path.name: digest_file(path) for path in sorted(staged.iterdir())},
            threads=threads,
            sample=dict(sample or {}),
        )
        text = json.dumps(asdict(described), indent=2, sort_keys=True, ensure_ascii=False)
        (staged / "model.json").write_text(text + "\n", "utf-8")
        digest = digest_of(staged)
        if out.is_dir():
            if (out / "model.json").is_file() and digest_of(out) == digest:
                return digest
            old = out.with_name(f".{out.name}.{secrets.token_hex(4)}.old")
            out.rename(old)
            staged.rename(out)
            shutil.rmtree(old)
        else:
            staged.rename(out)
        return digest
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def digest_of(folder: Path) -> str:
    """`sha256:…` of `model.json`, which names the digests of all other files."""
    return digest_file(folder / "model.json")


def verify(folder: Path, expected: str | None = None) -> Description:
    """Check each file of a model folder against its digest, and give its description.

    Args:
        folder: the model folder.
        expected: the folder's digest, where the caller knows it.

    Raises:
        FolderError: it is no model folder.
        ChangedError: a file is missing, was changed, or does not belong there.
    """
    path = folder / "model.json"
    if not path.is_file():
        raise FolderError(f"{folder} is no model folder: it has no model.json", do="name the folder that train made")
    if expected is not None and (found := digest_of(folder)) != expected:
        raise ChangedError(f"{folder} has digest {found}, not {expected}", do="restore it or make it again")
    try:
        data = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise FolderError(f"{path} is not JSON ({error})", do="restore it or make it again") from None
    description = Description.from_json(data, path)
    for name, digest in description.files.items():
        if not (folder / name).is_file():
            raise ChangedError(f"{folder / name} is missing", do="restore it or make the folder again")
        if (found := digest_file(folder / name)) != digest:
            raise ChangedError(f"{folder / name} has digest {found}, not {digest}", do="restore it or make it again")
    known = {*description.files, "model.json"}
    for there in sorted(folder.rglob("*")):
        name = there.relative_to(folder).as_posix()
        if not there.is_dir() and name not in known and "__pycache__" not in there.parts:
            raise ChangedError(f"{there} has no digest in model.json", do="remove it")
    if description.kind == "eager":
        refuse_pickle(folder / description.file)
    return description


def refuse_pickle(path: Path) -> None:
    """Check that weights begin as safetensors do, by their bytes and not by their name.

    Raises:
        FolderError: it is a pickle, a `torch.save` archive, or something else.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(9)
    if len(head) == 9 and head[8:] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8:
        return
    pickled = head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))
    found = "a pickle (torch.save), which can run code when it is opened" if pickled else "not safetensors"
    raise FolderError(f"{path} is {found}", do="save the weights with safetensors.torch.save_model")


def unpack_code(archive: Path, digest: str, into: Path) -> Path:
    """Unpack a code archive as `into/<sha256>`, or give the folder that stands there if it is unchanged.

    Raises:
        ChangedError: the bytes differ from `digest`, a member leads out or is no plain file, or the folder that
            stands there differs from the archive.
    """
    if (found := digest_file(archive)) != digest:
        raise ChangedError(f"{archive} has digest {found}, not {digest}", do="pack the code again")
    final = into / digest.removeprefix("sha256:")
    if not final.is_dir():
        staged = into / f".{final.name}.{secrets.token_hex(4)}.tmp"
        try:
            for name, data in _members(archive):
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                (staged / name).write_bytes(data)
            staged.mkdir(parents=True, exist_ok=True)
            staged.rename(final)
            return final
        except OSError:
            if not final.is_dir():  # another process was not faster either
                raise
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    for name, data in _members(archive):
        if not (final / name).is_file() or (final / name).read_bytes() != data:
            raise ChangedError(f"{final / name} differs from its archive", do=f"remove {final}")
    return final


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file. Uncompressed only, so that a small archive cannot become a big folder."""
    total = 0
    try:
        with tarfile.open(archive, mode="r:") as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if not member.isreg() or name.is_absolute() or ".." in name.parts or not name.parts:
                    raise ChangedError(f"{archive} holds {member.name!r}, no plain file inside it", do="pack it again")
                total += member.size
                content = tar.extractfile(member)
                if total > CODE_LIMIT_BYTES or content is None:
                    raise ChangedError(f"{archive} unpacks to more than {CODE_LIMIT_BYTES} bytes", do="pack it again")
                yield member.name, content.read()
    except tarfile.TarError as error:
        raise ChangedError(f"{archive} is no code archive ({error})", do="pack the code again") from None


def digest_file(path: Path) -> str:
    """`sha256:` and the hexadecimal digest of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
