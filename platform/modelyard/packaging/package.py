"""The stage `package`: the chosen variant as one archive that says of each of its bytes what it must be."""

import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

from modelyard.data.shards import SplitReader
from modelyard.errors import BadInput, Tampered
from modelyard.model.facts import RecipeError
from modelyard.model.predictor import ChangedError, Description, Predictor, digest_of
from modelyard.packaging.archive import digests, serving_code, write_archive
from modelyard.packaging.golden import record_golden
from modelyard.packaging.signing import sign, signing_key
from modelyard.record import record
from modelyard.serving.contents import GOLDEN, MANIFEST, MODEL, SIGNATURE, GoldenRequests, Manifest
from modelyard.spec.codec import from_json, to_json
from modelyard.storage.atomic import digest_file, staging

GOLDEN_REQUESTS = 8


@record
class Package:
    """What `package` gives: paths as text, digests as `sha256:…`."""

    name: str
    archive: str
    digest: str
    """Of the archive's bytes: what a version is known by."""
    manifest: str
    """Path of the manifest."""
    golden: str
    """Path of the golden requests."""
    folder: str
    """Path of the model folder, from which pyfunc loads."""
    model_digest: str
    variant: str
    bytes: int

    def within(self, out: Path) -> "Package":
        """The same package where it lies now: a project's folder may have been moved."""
        return replace(
            self,
            archive=str(out / f"{self.name}.mar"),
            manifest=str(out / MANIFEST),
            golden=str(out / GOLDEN),
            folder=str(out / MODEL),
        )


def package(
    model: Path, *, name: str, data: Path, work: Path, out: Path, key: Path | None = None, split: str = "test"
) -> Package:
    """Make the archive of a model folder, with golden requests of the test split and a signed manifest.

    Args:
        model: the model folder of the chosen variant.
        name: the model's name.
        data: prepared data, for the golden requests.
        work: where code is unpacked.
        out: folder to make: `<name>.mar`, `manifest.json`, `golden.json`, `model/`.
        key: file of the signing key, made when it is not there; unsigned when absent.
        split: where the golden requests come from.

    Raises:
        BadInput: no model folder, a pickle in it, an empty split, a recipe that cannot answer a test example, or
            another package stands in `out`.
        Tampered: a file of the model folder differs from its digest.
    """
    try:
        with Predictor.load(model, work=work) as predictor:
            golden = _golden(predictor, data, split)
            description = predictor.description
    except ChangedError as error:
        raise Tampered(error.what, do=error.do) from None
    except RecipeError as error:
        raise BadInput(error.what, do=error.do) from None
    with staging(out) as staged:
        _write(staged, model, description, name=name, golden=golden, key=key)
        made = digest_file(staged / f"{name}.mar")
    there = load_package(out, name=name)
    if there.digest != made:
        raise BadInput(f"{out} holds another package, {there.digest}", do="remove it or name another folder")
    return there


def load_package(out: Path, *, name: str) -> Package:
    """The package in a folder that `package` made."""
    archive = out / f"{name}.mar"
    manifest = from_json(Manifest, (out / MANIFEST).read_bytes(), where=str(out / MANIFEST))
    return Package(
        name=name,
        archive=str(archive),
        digest=digest_file(archive),
        manifest=str(out / MANIFEST),
        golden=str(out / GOLDEN),
        folder=str(out / MODEL),
        model_digest=manifest.model,
        variant=manifest.variant,
        bytes=archive.stat().st_size,
    )


def _golden(predictor: Predictor, data: Path, split: str) -> GoldenRequests:
    rows = list(islice(SplitReader(data, split).rows(), GOLDEN_REQUESTS))
    if not rows:
        raise BadInput(f"The {split} split of {data} is empty", do="prepare data with a test split")
    return record_golden(predictor, rows)


def _write(
    out: Path, model: Path, description: Description, *, name: str, golden: GoldenRequests, key: Path | None
) -> None:
    folder = out / MODEL
    folder.mkdir()
    for file in ("model.json", *description.files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model / file, folder / file)
    (out / GOLDEN).write_text(to_json(golden), "utf-8")
    entries: dict[str, bytes | Path] = {
        **serving_code(name),
        **{f"{MODEL}/{file}": folder / file for file in ("model.json", *description.files)},
        GOLDEN: out / GOLDEN,
    }
    manifest = Manifest(
        name=name,
        model=digest_of(folder),
        variant=description.variant,
        threads=description.threads,
        files=digests(entries),
    )
    (out / MANIFEST).write_text(to_json(manifest), "utf-8")
    entries[MANIFEST] = out / MANIFEST
    if key is not None:
        signature = sign((out / MANIFEST).read_bytes(), signing_key(key))
        (out / SIGNATURE).write_text(to_json(signature), "utf-8")
        entries[SIGNATURE] = out / SIGNATURE
    write_archive(out / f"{name}.mar", entries)
