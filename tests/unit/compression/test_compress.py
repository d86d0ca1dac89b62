"""The stage, in its real processes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.compression.conftest import model_folder, prepared_folder

from modelyard.compression.compress import CompressionReport, check, compress, names_to_try
from modelyard.compression.job import Job
from modelyard.compression.overlap import check_overlap
from modelyard.compression.report import REFERENCE
from modelyard.compression.variants import VARIANTS
from modelyard.data.prepared import load_prepared
from modelyard.data.shards import SplitReader, write_shard
from modelyard.errors import BadInput
from modelyard.model.predictor import Predictor, digest_of, verify, write_model_folder
from modelyard.processes import wait_until
from modelyard.spec.codec import from_data, from_json, to_data, to_json
from modelyard.spec.gates import Compress
from modelyard.units import Duration

USUAL = ("onnx-int8", "onnx", "torchscript", "bf16")
SPEC = Compress(max_drop={"accuracy": 0.05}, time_budget=Duration("240s"))


def run(model: Path, data: Path, out: Path, spec: Compress = SPEC, **more) -> CompressionReport:
    settings = {"batch_size": 4, "threads": 1, "work": out.parent / "work", "out": out} | more
    return compress(model, data, spec, **settings)


@pytest.fixture(scope="module")
def done(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CompressionReport, Path, list]:
    out = tmp_path_factory.mktemp("compress") / "out"
    told: list[tuple[str, float]] = []
    return run(model, data, out, replace(SPEC, variants=USUAL), progress=lambda *args: told.append(args)), out, told


@pytest.mark.process
class TestAWholeStage:
    def test_every_variant_is_measured_beside_the_reference(self, done):
        report, _, _ = done
        assert [result.name for result in report.variants] == [REFERENCE, *USUAL]
        for result in report.variants:
            assert result.failure is None, result
            assert 0 < result.p50_ms <= result.p99_ms
            assert result.throughput > 0
            assert result.peak_memory_mb > 50
            assert result.load_s > 0
            assert result.bytes > 0
            assert 0.5 < result.metrics["accuracy"].value <= 1
        for result in report.variants[1:]:
            assert result.ratio.low <= result.ratio.value <= result.ratio.high
            assert result.drop["accuracy"].low <= result.drop["accuracy"].value <= result.drop["accuracy"].high
            assert result.cosine > 0.99

    def test_each_variant_is_a_model_folder_that_answers_as_the_uncompressed_model_does(
        self, done, model, data, tmp_path
    ):
        report, out, _ = done
        rows = list(SplitReader(data, "validation").rows(0, 40))
        with Predictor.load(model, work=tmp_path) as predictor:
            wanted = [answer["prediction"] for answer in predictor.predict(rows)]
        for result in report.variants:
            with Predictor.load(out / result.folder, work=tmp_path, expected=result.digest) as predictor:
                assert predictor.description.variant == result.name
                got = [answer["prediction"] for answer in predictor.predict(rows)]
            assert sum(a == b for a, b in zip(wanted, got, strict=True)) >= 39

    def test_int8_is_smaller_than_fp32_in_the_same_format(self, done):
        report, _, _ = done
        assert report.variant("onnx-int8").bytes < report.variant("onnx").bytes

    def test_what_is_chosen_is_within_the_budget(self, done):
        report, _, _ = done
        assert report.chosen in {result.name for result in report.variants}
        assert report.variant(report.chosen).within_budget
        assert report.reason.startswith(report.chosen)
        assert all(result.note for result in report.variants)

    def test_the_folder_holds_the_variants_and_nothing_else(self, done):
        report, out, _ = done
        assert sorted(path.name for path in out.iterdir()) == sorted(result.name for result in report.variants)
        for result in report.variants:
            assert set(verify(out / result.folder).files) | {"model.json"} == {
                path.name for path in (out / result.folder).iterdir()
            }

    def test_progress_grows_to_the_end(self, done):
        _, _, told = done
        shares = [share for _, share in told]
        assert shares == sorted(shares)
        assert 0 < shares[0] < shares[-1] == 1
        assert any("onnx-int8" in words for words, _ in told)

    def test_the_report_survives_its_way_through_a_file(self, done):
        report, _, _ = done
        assert from_json(CompressionReport, to_json(report)) == report
        assert from_data(CompressionReport, to_data(report)) == report


@pytest.fixture(scope="module")
def trained(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CompressionReport, Path]:
    """Families that train, and one that follows from another."""
    out = tmp_path_factory.mktemp("trained") / "out"
    spec = replace(SPEC, variants=("distilled", "pruned", "int8-weights"), student={"width": 2})
    return run(model, data, out, spec), out


@pytest.mark.process
class TestFamiliesThatTrain:
    def test_a_student_and_a_pruned_model_are_smaller_and_learnt_what_the_original_knows(self, trained):
        report, _ = trained
        for name in ("distilled", "pruned"):
            result = report.variant(name)
            assert result.failure is None, result
            assert result.bytes < report.variant(REFERENCE).bytes
            assert result.metrics["accuracy"].value > report.variant(REFERENCE).metrics["accuracy"].value - 0.05

    def test_the_folder_of_a_student_names_the_arguments_that_make_it(self, trained):
        _, out = trained
        assert verify(out / "distilled").recipe["with"] == {"width": 2}
        assert verify(out / "pruned").recipe["with"] == {"width": 8}

    def test_one_that_loses_little_is_cut_deeper_and_says_by_how_much(self, trained):
        report, _ = trained
        deeper = [result for result in report.variants if result.name == "pruned-cut0.75"]
        if report.variant("pruned").within_budget and deeper:  # whether it was fast enough is the clock's to say
            assert deeper[0].settings == {"cut": 0.75}
            assert deeper[0].bytes < report.variant("pruned").bytes

    def test_weights_in_8_bits_are_a_variant_like_any_other(self, trained):
        report, _ = trained
        assert report.variant("int8-weights").failure is None
        assert report.variant("int8-weights").cosine > 0.999


@pytest.mark.process
@pytest.mark.parametrize(
    ("student", "told"),
    [
        ({"width": 8}, "has 1,619 parameters, its teacher has 1,619"),
        ({"breadth": 2}, "compress.student cannot be made"),
    ],
    ids=["no smaller than its teacher", "arguments that the recipe does not take"],
)
def test_a_student_that_cannot_be_one_is_refused_before_any_work(student, told, model, data, tmp_path: Path):
    began = time.monotonic()
    with pytest.raises(BadInput, match=re.escape(told)):
        run(model, data, tmp_path / "out", replace(SPEC, variants=("distilled",), student=student))
    assert list((tmp_path / "out").iterdir()) == []
    assert time.monotonic() - began < 60  # no variant was built


@pytest.mark.process
def test_equal_input_gives_equal_programs_and_the_test_split_is_never_read(done, model, data, tmp_path: Path):
    """What is judged on the test split later must not have been seen before; here it is gone."""
    first, _, _ = done
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    for shard in load_prepared(copy).splits["test"]:
        (copy / shard.name).unlink()
    again = run(model, copy, tmp_path / "out", replace(SPEC, variants=("onnx-int8",)))
    for name in (REFERENCE, "onnx-int8"):
        assert again.variant(name).digest == first.variant(name).digest


@pytest.mark.process
def test_a_budget_that_is_too_short_leaves_the_uncompressed_model(model: Path, data: Path, tmp_path: Path):
    report = run(model, data, tmp_path / "out", replace(SPEC, time_budget=Duration("10ms")))
    assert report.chosen == REFERENCE
    assert all("time budget of 10ms" in result.failure for result in report.variants[1:])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [REFERENCE]


@pytest.mark.process
def test_a_model_that_no_tool_can_follow_keeps_its_reasons_and_serves_uncompressed(data: Path, tmp_path: Path):
    model = model_folder(tmp_path / "model", "Branching")
    report = run(model, data, tmp_path / "out", replace(SPEC, variants=("torchscript", "bf16")))
    assert report.chosen == REFERENCE
    for result in report.variants[1:]:
        assert "forward is no pure function of tensors" in result.failure


CRASHES = """
import os, sys
import torch
from modelyard.compression import bench
from modelyard.compression.variants import VARIANTS, torchscript
from dataclasses import replace

def abort(source, path): os.abort()
def leave(source, path): os._exit(3)
def raises(source, path): raise MemoryError("no room for 3 TB")
def nan(source, path):
    with torch.no_grad():
        for parameter in source.module.parameters():
            parameter.fill_(float("nan"))
    torch.jit.trace(source.module, source.example, check_trace=False).save(str(path))

for name, build in {"onnx-int8": abort, "onnx": leave, "bf16": raises}.items():
    VARIANTS[name] = replace(VARIANTS[name], build=build)
VARIANTS["nan"] = replace(VARIANTS["torchscript"], name="nan", build=nan)
sys.argv = ["bench", sys.argv[1]]
sys.exit(bench.main())
"""


@pytest.mark.process
def test_one_that_crashes_leaves_raises_or_answers_nan_never_stops_the_others(model, data, tmp_path: Path):
    names = ("onnx-int8", "onnx", "bf16", "nan", "torchscript")
    job = Job(
        model=str(model), data=str(data), spec=SPEC, names=names, batch_size=4, threads=1, work=str(tmp_path / "work"),
        out=str(tmp_path / "variants"), began=time.monotonic(),
    )  # fmt: skip
    (tmp_path / "job.json").write_text(to_json(job))
    finished = subprocess.run(
        [sys.executable, "-c", CRASHES, str(tmp_path / "job.json")],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    report = from_json(CompressionReport, (tmp_path / "report.json").read_bytes())
    reasons = {result.name: result.failure for result in report.variants}
    assert reasons["onnx-int8"] == "its process crashed (SIGABRT)"
    assert reasons["onnx"] == "its process crashed (exit 3)"
    assert reasons["bf16"] == "MemoryError: no room for 3 TB"
    assert "answered nan" in reasons["nan"]
    assert reasons["torchscript"] is None
    assert reasons[REFERENCE] is None


def alive_for(place: Path) -> list[str]:
    """Command lines of living processes that work in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(place) in line:
                found.append(line)
    return found


INTERRUPTED = """
import sys
from pathlib import Path
from modelyard.compression.compress import compress
from modelyard.spec.gates import Compress
model, data, place = map(Path, sys.argv[1:4])
print("begins", flush=True)
try:
    compress(model, data, Compress(max_drop={"accuracy": 0.05}), batch_size=4, threads=1, work=place / "work",
             out=place / "out", progress=lambda *told: print(told, flush=True))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_who_is_stopped_in_mid_work_leaves_no_process_and_no_variant(number, model: Path, data: Path, tmp_path: Path):
    argv = [sys.executable, "-c", INTERRUPTED, str(model), str(data), str(tmp_path)]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        lines = [child.stdout.readline(), child.stdout.readline()]
        assert "fp32 is built" in lines[1]
        assert len(alive_for(tmp_path)) >= 2  # the bench and its workers; the caller names the place too
        child.send_signal(number)
        code = child.wait(timeout=30)
        assert code == (130 if number == signal.SIGINT else -signal.SIGKILL)
        wait_until(lambda: not alive_for(tmp_path), deadline_s=15, what="the end of the bench and its workers")
        if number == signal.SIGINT:
            assert list((tmp_path / "out").iterdir()) == []
    finally:
        child.kill()
        child.stdout.close()


# bad input: refused before anything is written

BAD = {
    "a drop that is negative": ({"max_drop": {"accuracy": -0.01}}, "compress.maxDrop.accuracy is -0.01"),
    "a drop that is no number": ({"max_drop": {"accuracy": float("nan")}}, "compress.maxDrop.accuracy is nan"),
    "a variant that nobody knows": ({"variants": ("onnx-int7",)}, "names 'onnx-int7'; did you mean onnx-int8?"),
    "distillation without a student": ({"variants": ("distilled",)}, "there is no compress.student"),
    "a student that no variant is made of": (
        {"variants": ("onnx",), "student": {"width": 2}},
        "compress.student cannot act",
    ),
    "a confidence of one": ({"confidence": 1.0}, "compress.confidence is 1"),
}


@pytest.mark.parametrize(("fields", "message"), BAD.values(), ids=BAD)
def test_a_section_that_cannot_be_used_is_refused(fields, message, model, data, tmp_path: Path):
    with pytest.raises(BadInput, match=re.escape(message)):
        run(model, data, tmp_path / "out", replace(SPEC, **fields))
    assert not (tmp_path / "out").exists()


@pytest.mark.process
def test_a_metric_that_no_evaluator_gives_is_refused_by_name(model: Path, data: Path, tmp_path: Path):
    with pytest.raises(BadInput, match="word-error-rate"):
        run(model, data, tmp_path / "out", replace(SPEC, max_drop={"word-error-rate": 0.1}))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("empty", ["train", "validation"])
def test_an_empty_split_is_refused_by_name(empty: str, model: Path, tmp_path: Path):
    sizes = {"train": 20, "validation": 20, "test": 20} | {empty: 0}
    with pytest.raises(BadInput, match=f"The {empty} split .* is empty"):
        run(model, prepared_folder(tmp_path / "data", sizes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_model_folder_no_data_folder_and_no_threads_are_refused(model: Path, data: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="is no model folder"):
        run(tmp_path / "empty", data, tmp_path / "out")
    with pytest.raises(BadInput, match="holds no prepared data"):
        run(model, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(BadInput, match="0 threads"):
        run(model, data, tmp_path / "out", threads=0)
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_compressed_already_is_refused(model: Path, data: Path, tmp_path: Path):
    (tmp_path / "program").write_bytes(b"program")
    write_model_folder(
        tmp_path / "onnx", kind="onnx", model=tmp_path / "program", recipe={"use": "mlp"}, facts={}, inputs=["image"]
    )
    with pytest.raises(BadInput, match="is a model of kind onnx"):
        run(tmp_path / "onnx", data, tmp_path / "out")


def test_a_model_whose_bytes_changed_is_not_opened(model: Path, data: Path, tmp_path: Path):
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    with (copy / "model.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(Exception, match="digest"):
        run(copy, data, tmp_path / "out")
    assert digest_of(copy) == digest_of(model)
    assert not (tmp_path / "out").exists()


def leaking(folder: Path, **counts: int) -> Path:
    """Prepared data of which preparation says that examples are in two splits."""
    prepared_folder(folder, {"train": 20, "validation": 20, "test": 20})
    prepared = load_prepared(folder)
    (folder / "prepared.json").write_text(to_json(replace(prepared, counts={**prepared.counts, **counts})))
    return folder


def test_a_calibration_split_that_overlaps_the_test_split_is_refused_with_an_example(model: Path, tmp_path: Path):
    folder = leaking(tmp_path / "data", leakage=1)
    check_overlap(folder)  # they were dropped
    prepared = load_prepared(folder)
    columns = SplitReader(folder, "test").take([3])
    columns["id"] = ["twin"]
    shard = write_shard(folder / "train-1.arrow", columns)
    splits = {**prepared.splits, "train": (*prepared.splits["train"], shard)}
    (folder / "prepared.json").write_text(to_json(replace(prepared, splits=splits)))
    with pytest.raises(BadInput, match=r"1 examples of the train split are in the test split too \(twin is 2-3\)"):
        run(model, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_shard_that_is_in_both_splits_is_refused_without_reading_it(model: Path, tmp_path: Path):
    folder = leaking(tmp_path / "data")
    prepared = load_prepared(folder)
    splits = {**prepared.splits, "train": prepared.splits["test"]}
    (folder / "prepared.json").write_text(to_json(replace(prepared, splits=splits)))
    with pytest.raises(BadInput, match="a whole shard of the train split is in the test split too"):
        run(model, folder, tmp_path / "out")


def test_without_a_budget_nothing_is_tried_and_slow_ones_are_tried_only_by_name():
    assert names_to_try(Compress()) == ()
    assert {"aot", "pruned", "clustered"}.isdisjoint(names_to_try(replace(SPEC, time_budget=Duration("30s"))))
    assert "pruned" in names_to_try(SPEC)
    assert "clustered" not in names_to_try(SPEC)
    assert names_to_try(replace(SPEC, variants=("aot", "onnx"))) == ("onnx", "aot")
    assert names_to_try(replace(SPEC, variants=(REFERENCE,))) == ()
    assert set(names_to_try(SPEC)) < set(VARIANTS)


def test_a_good_section_is_not_refused():
    check(SPEC)
    check(Compress())
