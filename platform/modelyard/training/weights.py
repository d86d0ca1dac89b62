"""Weights in and out: safetensors only, by exact names and shapes, and what `freeze` keeps still."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from modelyard.errors import BadInput, StageFailed, Tampered
from modelyard.model.folder import FILES, FolderError, refuse_pickle
from modelyard.spec.train import Initialize
from modelyard.storage.atomic import digest_bytes, digest_file, write_bytes
from modelyard.training.clip import local
from modelyard.training.job import Origin, Weights


def initialize(model: nn.Module, spec: Initialize, given: Weights | None) -> Origin:
    """Load the weights that training begins with.

    Args:
        model: takes them, in place.
        spec: what people wrote; a path where `given` is None.
        given: the file, when it was found by a registered version.

    Raises:
        BadInput: no such file, a pickle, or (with `strict`) tensors that do not fit.
        Tampered: its digest is not the one that was recorded.
    """
    path = Path(given.path if given else spec.from_)
    if path.is_dir():
        path = path / FILES["eager"]
    where = "train.initialize.from"
    if not path.is_file():
        raise BadInput(f"{where}: there is no file {path}", do="name a safetensors file or a model folder")
    try:
        refuse_pickle(path)
        found = load_file(path)
    except FolderError as error:
        raise BadInput(f"{where}: {error.what}", do="save the weights as safetensors") from None
    except Exception as error:  # safetensors has its own kinds
        raise BadInput(f"{where}: {path} is no whole safetensors file ({error})", do="make it again") from None
    digest = digest_file(path)
    if given and given.digest and given.digest != digest:
        raise Tampered(f"{path} has digest {digest}, not {given.digest}", do="fetch it again")
    skipped = _fill(model, found, strict=spec.strict, where=f"{where}: {path.name}")
    return Origin(source=spec.from_, digest=digest, skipped=skipped)


def _fill(model: nn.Module, found: Mapping[str, Tensor], *, strict: bool, where: str) -> tuple[str, ...]:
    own = model.state_dict()
    missing = [name for name in own if name not in found]
    strange = [name for name in found if name not in own]
    misshapen = [name for name in own if name in found and own[name].shape != found[name].shape]
    if strict and (missing or strange or misshapen):
        shapes = [f"{name} {tuple(found[name].shape)} for {tuple(own[name].shape)}" for name in misshapen]
        parts = {"lacks": missing, "does not know": strange, "has other shapes:": shapes}
        told = "; ".join(f"{verb} {_few(names)}" for verb, names in parts.items() if names)
        raise BadInput(f"{where} {told}", do="give the weights of this model, or set strict: false")
    fitting = {name: value for name, value in found.items() if name in own and name not in misshapen}
    if not fitting:
        raise BadInput(f"{where} fits in no tensor of the model", do="give weights of this model")
    model.load_state_dict(fitting, strict=False)
    return tuple(sorted({*missing, *strange, *misshapen}))


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def freeze(model: nn.Module, prefixes: Iterable[str]) -> None:
    """Take parameters out of training, by prefix: `backbone` means `backbone` and all below it.

    Raises:
        BadInput: a prefix names nothing (it could not act), or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        if not any(_below(name, prefix) for name in names):
            tops = sorted({part for name in names for part in (name, name.split(".")[0])})
            close = difflib.get_close_matches(prefix, tops, n=1)
            hint = f" (nearest: {close[0]})" if close else ""
            raise BadInput(f"train.freeze: {prefix!r} names no parameter{hint}", do=f"name one of {_few(tops)}")
    for name, parameter in model.named_parameters():
        if any(_below(name, prefix) for prefix in prefixes):
            parameter.requires_grad = False
    if not names:
        raise BadInput(
            "The recipe's model has no parameters: there is nothing to train", do="give it layers that learn"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise BadInput("train.freeze leaves no parameter to train", do="freeze less")


def train_mode(model: nn.Module, prefixes: Iterable[str]) -> None:
    """Training mode, but for frozen modules: frozen means that its batch-norm statistics stay too."""
    model.train()
    for name, module in model.named_modules():
        if any(_below(name, prefix) for prefix in prefixes):
            module.eval()


def checkpointed(model: nn.Module, prefixes: Iterable[str]) -> dict[str, Tensor]:
    """The tensors that training changes, by name: parameters and buffers, without what is frozen."""
    return {
        name: value
        for name, value in model.state_dict().items()
        if isinstance(value, Tensor) and not any(_below(name, prefix) for prefix in prefixes)
    }


def frozen_digest(model: nn.Module, prefixes: tuple[str, ...]) -> str:
    """A digest of what is frozen: it is in no checkpoint, so resuming must find the same again."""
    held = {n: v for n, v in model.state_dict().items() if any(_below(n, prefix) for prefix in prefixes)}
    return digest_bytes(save({name: _plain(value) for name, value in held.items()})) if held else ""


def whole(model: nn.Module) -> dict[str, Tensor]:
    """All weights on the CPU, frozen ones too; every process must ask, for each may hold a part of them."""
    return {name: _plain(value) for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def save_weights(tensors: Mapping[str, Tensor], path: Path) -> str:
    """Write weights and give the file's digest. Tied weights are written under each name.

    Raises:
        StageFailed: a weight is NaN or Inf.
    """
    check_finite(tensors)
    data = save(dict(tensors))
    write_bytes(path, data)
    return digest_bytes(data)


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Check that no weight is NaN or Inf, so that neither a checkpoint nor a model is poisoned.

    Each process looks at its own shards, so that no process waits for another.

    Raises:
        StageFailed: one is; the message names the tensor.
    """
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(local(value)).all()):
            raise StageFailed(f"Weight {name} became NaN or Inf", do="lower train.optimizer.lr or set train.clipNorm")


def _plain(value: Tensor) -> Tensor:
    """On the CPU, whole, in memory of its own: what safetensors can write."""
    whole = value.full_tensor() if hasattr(value, "full_tensor") else value
    return whole.detach().to("cpu", copy=True).contiguous()


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix.rstrip(".") + ".")
