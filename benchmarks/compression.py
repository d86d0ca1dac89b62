"""What compression gains on two well-known nets, how far the answers move, and whether the search keeps its time.

    .venv/bin/python benchmarks/compression.py [--net resnet18 encoder] [--budget 300s] [--threads 2] [--markdown FILE]

The stage itself, in its own processes, on random weights with a fixed seed: each variant is timed in turns with the
uncompressed model, so ratios hold on a busy machine too, where milliseconds do not. Labels are what the uncompressed
model answers, so that a drop in accuracy is a share of changed answers; with random weights, classes lie close together
and the budget for it is wide, while the cosine of the outputs says how near they are.

Goals on a CPU with VNNI and two threads: the chosen variant's p50 at most 0.20 of fp32 eager, cosine at least 0.999;
the search within its time budget + 10 %. `--neighbour PYTHON` lets Intel Neural Compressor quantize the same net, in an
environment where it is installed, and times it beside.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import compression_nets
import numpy as np
import torch
from safetensors.torch import save_model

from modelyard.compression.compress import CompressionReport, compress
from modelyard.data.prepared import PreparedData
from modelyard.data.shards import write_shard
from modelyard.model.facts import Facts
from modelyard.model.node import node_type
from modelyard.model.predictor import write_model_folder
from modelyard.spec.codec import to_json
from modelyard.spec.gates import Compress
from modelyard.storage.atomic import digest_bytes
from modelyard.storage.code import pack
from modelyard.units import Duration

HERE = Path(__file__).resolve().parent
SIZES = {"train": 32, "validation": 32, "test": 8}
RATIO, COSINE, OVERRUN = 0.20, 0.999, 1.10
VARIANTS = ("onnx-int8", "onnx", "torchscript", "aot-int8", "onnx-int8-dynamic", "bf16", "aot")
"""In this order as far as the budget goes; those that train have nothing to learn from random answers."""


def examples(net: str, size: int, seed: int) -> np.ndarray:
    """What a net takes: (N, 3, 224, 224) or (N, 128)."""
    rng = np.random.default_rng(seed)
    if net == "resnet18":
        return rng.standard_normal((size, 3, 224, 224), dtype=np.float32)
    return rng.integers(0, 30522, size=(size, 128))


def made(net: str, into: Path) -> tuple[Path, Path]:
    """Model folder and prepared data of a net."""
    recipe, column = {"resnet18": ("ResNet18", "image"), "encoder": ("Encoder", "tokens")}[net]
    torch.manual_seed(0)
    module = getattr(compression_nets, recipe)().model().eval()
    shape = list(examples(net, 1, 0).shape[1:])
    splits, classes = {}, 1000 if net == "resnet18" else 2
    (into / "data").mkdir(parents=True)
    for seed, (split, size) in enumerate(SIZES.items()):
        values = examples(net, size, seed)
        with torch.inference_mode():
            labels = torch.cat([module(torch.from_numpy(part)).argmax(1) for part in np.array_split(values, 8)])
        columns = {"id": [f"{split}{at}" for at in range(size)], column: values, "label": labels.numpy()}
        splits[split] = (write_shard(into / "data" / f"{split}-0.arrow", columns),)
    facts = Facts(
        classes=[str(at) for at in range(classes)],
        features=[{"name": column, "type": "array", "shape": shape}],
        label={"column": "label", "kind": "class"},
    )
    prepared = PreparedData(
        fingerprint=digest_bytes(net.encode()),
        splits=splits,
        digests={name: digest_bytes(repr(shards).encode()) for name, shards in splits.items()},
        facts=facts.to_json(),
        counts=SIZES,
    )
    (into / "data" / "prepared.json").write_text(to_json(prepared))
    (into / "code").mkdir()
    (into / "code" / "nets.py").write_text((HERE / "compression_nets.py").read_text())
    save_model(module, str(into / "weights.safetensors"))
    write_model_folder(
        into / "model",
        kind="eager",
        model=into / "weights.safetensors",
        recipe={"use": f"nets.py:{recipe}", "with": {}},
        facts=facts,
        inputs=[column],
        code=pack(into / "code", into / "packed").path,
        sample={column: {"shape": shape, "dtype": "float32" if net == "resnet18" else "int64"}},
    )
    return into / "model", into / "data"


def measured(net: str, into: Path, *, budget: str, threads: int, variants: Sequence[str]) -> CompressionReport:
    """The stage's report on a net."""
    model, data = made(net, into)
    spec = Compress(max_drop={"accuracy": 0.5}, time_budget=Duration(budget), variants=tuple(variants))
    return compress(
        model,
        data,
        spec,
        batch_size=8,
        threads=threads,
        work=into / "work",
        out=into / "out",
        progress=lambda told, share: print(f"  {share or 0:4.0%} {told}", file=sys.stderr),
    )


def rows(net: str, report: CompressionReport) -> Iterable[str]:
    """A line of the table for each variant."""
    for one in report.variants:
        if one.failure is not None:
            yield f"| {net} | {one.name} | – | – | – | – | – | – | {one.failure[:70]} |"
            continue
        ratio = "1" if one.ratio is None else f"{one.ratio.value:.3f} [{one.ratio.low:.3f}, {one.ratio.high:.3f}]"
        cosine = "1" if one.cosine is None else f"{one.cosine:.5f}"
        mark = "chosen" if one.name == report.chosen else ""
        yield (
            f"| {net} | {one.name} | {one.p50_ms:.1f} | {one.p99_ms:.1f} | {ratio} | {one.throughput:.1f} | {cosine} | "
            f"{(one.bytes or 0) / 1e6:.1f} | {mark} |"
        )


def verdict(net: str, report: CompressionReport, budget_s: float) -> Iterable[str]:
    """Each goal with both sides."""
    best = report.variant(report.chosen)
    ratio = best.ratio.value if best.ratio else 1.0
    for what, value, limit, good in (
        ("p50 over fp32 eager", ratio, RATIO, ratio <= RATIO),
        ("cosine", best.cosine or 1.0, COSINE, (best.cosine or 1.0) >= COSINE),
        ("seconds over the budget", report.seconds / budget_s, OVERRUN, report.seconds <= OVERRUN * budget_s),
    ):
        yield f"{'holds' if good else 'MISSED'}: {net}, {best.name}: {what} {value:.4g} (goal {limit:g})"


def neighbour(python: str, net: str, into: Path, threads: int) -> str:
    """What Intel Neural Compressor makes of the net, timed in turns with fp32 eager in its own environment."""
    ended = subprocess.run(
        [python, str(HERE / "compression_neighbour.py"), net, str(into / "weights.safetensors"), str(threads)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    if ended.returncode:
        lines = ended.stderr.strip().splitlines()
        return f"| {net} | Intel Neural Compressor | – | – | – | – | – | – | {(lines or ['no output'])[-1][:120]} |"
    found = json.loads(ended.stdout.strip().splitlines()[-1])
    name, p50_ms = f"Intel Neural Compressor {found['version']}", f"{found['p50_ms']:.1f}"
    return f"| {net} | {name} | {p50_ms} | – | {found['ratio']:.3f} | – | {found['cosine']:.5f} | – | {found['how']} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", nargs="+", choices=("resnet18", "encoder"), default=["resnet18", "encoder"])
    parser.add_argument("--budget", default="300s")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--neighbour", metavar="PYTHON", help="interpreter that has neural-compressor")
    parser.add_argument("--markdown", type=Path, help="also write the table there")
    asked = parser.parse_args()
    table = [
        "| net | variant | p50, ms | p99, ms | p50 over fp32 eager | per s at 8 | cosine | MB | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    goals: list[str] = []
    print(f"{node_type()}, {asked.threads} threads, budget {asked.budget} each, {time.strftime('%Y-%m-%d')}")
    for net in asked.net:
        with tempfile.TemporaryDirectory(prefix="compression-") as place:
            print(net, file=sys.stderr)
            report = measured(net, Path(place), budget=asked.budget, threads=asked.threads, variants=asked.variants)
            table += rows(net, report)
            if asked.neighbour:
                table.append(neighbour(asked.neighbour, net, Path(place), asked.threads))
            goals += verdict(net, report, Duration(asked.budget).seconds)
    print("\n".join([*table, "", *goals]))
    if asked.markdown:
        asked.markdown.write_text("\n".join(table) + "\n")
    sys.exit(any(line.startswith("MISSED") for line in goals))


if __name__ == "__main__":
    main()
