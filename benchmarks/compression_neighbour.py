"""Intel Neural Compressor on one of the benchmark's nets, in its own environment: `PYTHON this.py NET WEIGHTS THREADS`.

Static int8 by its documented way for PyTorch on CPUs (export, prepare, calibrate, convert, torch.compile by Inductor),
with its default configuration. Prints one JSON line: p50 over fp32 eager, timed in turns, and the outputs' cosine.
The environment needs `neural-compressor neural-compressor-pt torchao torch safetensors`, and g++.
"""

import json
import statistics
import sys
import time
from importlib.metadata import version
from typing import Any

import torch
from compression_nets import EncoderNet, ResNet18Net
from safetensors.torch import load_model

ROUNDS, CALLS = 12, 3


def inputs(net: str, size: int, seed: int) -> torch.Tensor:
    """Random pictures or tokens."""
    made = torch.Generator().manual_seed(seed)
    if net == "resnet18":
        return torch.randn(size, 3, 224, 224, generator=made)
    return torch.randint(0, 30522, (size, 128), generator=made)


def quantized(module: torch.nn.Module, net: str) -> Any:
    """The module as the neighbour's documentation makes it."""
    from neural_compressor.torch.export import export
    from neural_compressor.torch.quantization import convert, get_default_static_config, prepare

    exported = export(module, example_inputs=(inputs(net, 1, 0),))
    prepared = prepare(exported, quant_config=get_default_static_config())
    for seed in range(8):
        prepared(inputs(net, 1, seed))
    return torch.compile(convert(prepared))


def main() -> None:
    """Quantize, time in turns, print."""
    net, weights, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(threads)
    module = (ResNet18Net(64) if net == "resnet18" else EncoderNet(4)).eval()
    load_model(module, weights)
    from torch._inductor import config

    config.freezing = True
    one = inputs(net, 1, 99)
    with torch.no_grad():
        models = {"fp32": module, "int8": quantized(module, net)}
        outputs = {name: model(one).flatten() for name, model in models.items()}
        seconds: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(ROUNDS):
            for name, model in models.items():
                model(one)
                for _ in range(CALLS):
                    began = time.perf_counter()
                    model(one)
                    seconds[name].append(time.perf_counter() - began)
    ratios = [mine / theirs for mine, theirs in zip(seconds["int8"], seconds["fp32"], strict=True)]
    found = {
        "version": version("neural-compressor"),
        "p50_ms": statistics.median(seconds["int8"]) * 1e3,
        "ratio": statistics.median(ratios),
        "cosine": float(torch.cosine_similarity(outputs["fp32"], outputs["int8"], dim=0)),
        "how": "static int8, its default configuration, torch.compile",
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
