"""The stage `package`: the chosen variant as one archive that says of each of its bytes what it must be."""

import shutil
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from modelyard.data.shards import SplitReader
from modelyard.errors import BadInput, Tampered
from modelyard.model.facts import RecipeError
from modelyard.model.predictor import ChangedError, Description, Predictor, digest_of
from modelyard.packaging.archive import digests, serving_code, write_archive
from modelyard.packaging.golden import record_golden
from modelyard.packaging.packed import Elsewhere, Package
from modelyard.packaging.signing import sign, signing_key
from modelyard.serving.contents import (
    FALLBACK,
    FALLBACK_GOLDEN,
    GOLDEN,
    MANIFEST,
    MODEL,
    SIGNATURE,
    Fallback,
    GoldenRequests,
    Manifest,
)
from modelyard.spec.codec import from_json, to_json
from modelyard.storage.atomic import digest_file, staging

GOLDEN_REQUESTS = 8


def package(
    model: Path,
    *,
    name: str,
    data: Path,
    work: Path,
    out: Path,
    key: Path | None = None,
    split: str = "test",
    elsewhere: Elsewhere | None = None,
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
        elsewhere: where the variant serves, and what serves on other nodes; it serves everywhere when absent.

    Raises:
        BadInput: no model folder, a pickle in it, an empty split, a recipe that cannot answer a test example, or
            another package stands in `out`.
        Tampered: a file of the model folder differs from its digest.
    """
    try:
        recorded = {MODEL: _recorded(model, data, split, work)}
        if elsewhere is not None:
            recorded[FALLBACK] = _recorded(Path(elsewhere.fallback), data, split, work)
    except ChangedError as error:
        raise Tampered(error.what, do=error.do) from None
    except RecipeError as error:
        raise BadInput(error.what, do=error.do) from None
    with staging(out) as staged:
        _write(staged, recorded, name=name, elsewhere=elsewhere, key=key)
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


_Recorded = tuple[Path, Description, GoldenRequests]
"""A model folder, what it says of itself, and what it answers."""


def _recorded(model: Path, data: Path, split: str, work: Path) -> _Recorded:
    with Predictor.load(model, work=work) as predictor:
        rows = list(islice(SplitReader(data, split).rows(), GOLDEN_REQUESTS))
        if not rows:
            raise BadInput(f"The {split} split of {data} is empty", do="prepare data with a test split")
        return model, predictor.description, record_golden(predictor, rows)


def _write(
    out: Path, recorded: Mapping[str, _Recorded], *, name: str, elsewhere: Elsewhere | None, key: Path | None
) -> None:
    entries: dict[str, bytes | Path] = dict(serving_code(name))
    for place, (model, description, golden) in recorded.items():
        for file in ("model.json", *description.files):
            (out / place / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model / file, out / place / file)
            entries[f"{place}/{file}"] = out / place / file
        answers = GOLDEN if place == MODEL else FALLBACK_GOLDEN
        (out / answers).write_text(to_json(golden), "utf-8")
        entries[answers] = out / answers
    chosen = recorded[MODEL][1]
    manifest = Manifest(
        name=name,
        model=digest_of(out / MODEL),
        variant=chosen.variant,
        threads=chosen.threads,
        node_types=elsewhere.node_types if elsewhere else (),
        fallback=_fallback(out / FALLBACK, recorded[FALLBACK][1]) if elsewhere else None,
        variants=elsewhere.variants if elsewhere else (),
        files=digests(entries),
    )
    (out / MANIFEST).write_text(to_json(manifest), "utf-8")
    entries[MANIFEST] = out / MANIFEST
    if key is not None:
        signature = sign((out / MANIFEST).read_bytes(), signing_key(key))
        (out / SIGNATURE).write_text(to_json(signature), "utf-8")
        entries[SIGNATURE] = out / SIGNATURE
    write_archive(out / f"{name}.mar", entries)


def _fallback(folder: Path, description: Description) -> Fallback:
    return Fallback(model=digest_of(folder), variant=description.variant, threads=description.threads)
