"""A package is tried on a real server before anything is registered."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.small_model import entries_of

from modelyard.errors import Tampered
from modelyard.packaging.archive import digests, write_archive
from modelyard.packaging.package import Package
from modelyard.packaging.try_out import try_out
from modelyard.spec.deployment import Runtime
from modelyard.storage.atomic import digest_file
from modelyard.verdict import Outcome, Reason

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_a_package_that_gives_the_recorded_answers_passes(package_of: Callable[[str], Package], tmp_path: Path) -> None:
    verdict = try_out(package_of("PicturesOnly"), serving=Runtime(), work=tmp_path)
    assert (verdict.outcome, verdict.reason) == (Outcome.PASSED, Reason.GOLDEN_REQUESTS_ANSWERED)
    assert "8 golden requests" in verdict.message


def test_a_package_that_answers_something_else_fails_with_both_sides(
    package_of: Callable[[str], Package], tmp_path: Path
) -> None:
    packed = package_of("Polite")
    entries = entries_of(packed.archive)
    golden = json.loads(entries["golden.json"])
    golden["requests"][5]["answer"]["answer"] = "it was always: right"
    entries["golden.json"] = json.dumps(golden).encode()
    manifest = json.loads(entries.pop("manifest.json"))
    entries["manifest.json"] = json.dumps(manifest | {"files": digests(entries)}).encode()
    archive = tmp_path / "changed.mar"
    write_archive(archive, entries)
    changed = dataclasses.replace(packed, archive=str(archive), digest=digest_file(archive))
    verdict = try_out(changed, serving=Runtime(), work=tmp_path)
    assert (verdict.outcome, verdict.reason) == (Outcome.FAILED, Reason.GOLDEN_REQUESTS_DIFFER)
    assert "e5: answer.answer is 'it would be: right', recorded was 'it was always: right'" in verdict.message


def test_a_package_whose_model_cannot_be_loaded_fails_with_its_error(
    package_of: Callable[[str], Package], tmp_path: Path
) -> None:
    verdict = try_out(package_of("BreaksWhenMade"), serving=Runtime(), work=tmp_path)
    assert verdict.outcome == Outcome.FAILED
    assert "works in the laboratory only" in verdict.message


def test_a_package_whose_archive_was_changed_is_not_tried(package_of: Callable[[str], Package], tmp_path: Path) -> None:
    packed = dataclasses.replace(package_of("Polite"), digest="sha256:00")
    with pytest.raises(Tampered):
        try_out(packed, serving=Runtime(), work=tmp_path)
