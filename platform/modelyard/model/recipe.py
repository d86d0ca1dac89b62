"""The recipe: a class in the user's file that says everything about one model.

Opened from an unpacked code archive by trainer ranks, evaluation and handler alike. Two versions of the same file
never mix: inside `recipe_in` only its own folder is importable, and on the way out its modules are forgotten
(kserve/kserve #1669: pre-processing and model of different versions met in one request).
"""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, Protocol

from torch import Tensor, nn

from modelyard.model.facts import Facts, RecipeError, RequestError
from modelyard.model.loaded import Loaded, place
from modelyard.model.scope import Scope, lies_in

__all__ = ["Facts", "Loaded", "Recipe", "RecipeError", "RequestError", "open_recipe", "recipe_in"]

REQUIRED = ("model", "loss")
BUILT_IN = {"mlp": "modelyard.model.builtin:MLP"}
"""Recipes of ours by name."""


class Recipe(Protocol):
    """What a class must offer; `facts` is set before any method is called.

    Optional, used where they are there: `dataset(split)`, `example(row, *, train, rng)`, `predict(outputs)`,
    `metrics()`, `optimizer(params)`, `parallelize(model, mesh)`, `preprocess(request)`, `postprocess(prediction)`.
    `modelyard.model.loaded.Loaded` says what each takes and gives.
    """

    facts: Facts

    def model(self) -> nn.Module:
        """A new model; the parameters of its `forward` are named as columns of the batch."""

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> Tensor:
        """One number to be made small; with a parameter `label_smoothing` it takes train.labelSmoothing."""


def open_recipe(folder: Path, use: str, arguments: Mapping[str, Any], facts: Facts) -> Loaded:
    """Open a recipe for the rest of this process: for trainer ranks and handlers, which open one.

    Args:
        folder: the unpacked code.
        use: `file.py:Class` below the folder, or the name of a built-in recipe.
        arguments: keyword arguments of the class.
        facts: what is known about the data.

    Raises:
        RecipeError: no such file or class, it does not import, lacks a method, or does not take the arguments.
    """
    Scope(folder).open()
    return _opened(folder, use, arguments, facts)


def _opened(folder: Path, use: str, arguments: Mapping[str, Any], facts: Facts) -> Loaded:
    if use in BUILT_IN:
        module_name, class_name = BUILT_IN[use].split(":")
        return _made(getattr(importlib.import_module(module_name), class_name), use, arguments, facts)
    file, class_name = _parts(folder, use)
    module = _module(folder.resolve(), file)
    cls = getattr(module, class_name, None)
    if not inspect.isclass(cls):
        classes = [name for name, value in vars(module).items() if _is_own_class(value, module)]
        raise RecipeError(
            f"{file} has no class {class_name!r}",
            do=f"use one of its classes: {', '.join(classes)}" if classes else f"define class {class_name} in {file}",
        )
    return _made(cls, f"{file}:{class_name}", arguments, facts)


@contextmanager
def recipe_in(folder: Path, use: str, arguments: Mapping[str, Any], facts: Facts) -> Iterator[Loaded]:
    """Open a recipe for a while: its folder leaves the path and its modules are forgotten on the way out.

    Modules of other folders that are open are out of sight inside, so that equal names never mix.

    Raises:
        RecipeError: as `open_recipe`.
    """
    scope = Scope(folder)
    scope.open()
    try:
        loaded = _opened(folder, use, arguments, facts)
        loaded.scope = scope
        yield loaded
    finally:
        scope.close()


def _parts(folder: Path, use: str) -> tuple[str, str]:
    file, colon, class_name = use.partition(":")
    if not colon or not file.endswith(".py") or not class_name.isidentifier():
        raise RecipeError(
            f"recipe {use!r} names no class in a file", do=f"write file.py:Class or one of {', '.join(BUILT_IN)}"
        )
    inside = PurePosixPath(file)
    if inside.is_absolute() or ".." in inside.parts:
        raise RecipeError(f"recipe {use!r} leads out of the code folder", do="keep the recipe inside it")
    if not (folder / file).is_file():
        others = sorted(path.name for path in folder.glob("*.py"))
        raise RecipeError(
            f"recipe {use!r}: there is no file {file} in the code folder",
            do=f"name one of {', '.join(others)}" if others else "put it there, or correct code.path",
        )
    return str(inside), class_name


def _module(root: Path, file: str) -> ModuleType:
    name = ".".join(PurePosixPath(file).with_suffix("").parts)
    there = sys.modules.get(name)
    if there is not None:
        if lies_in(there, root):
            return there
        raise RecipeError(f"{file} is named like the module {name!r} that is in use already", do="rename the file")
    importlib.invalidate_caches()
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the folder is named by its digest
    try:
        module = importlib.import_module(name)
    except Exception as error:
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else place(error)
        hint = f"correct {file}; packages beyond Modelyard's own come with the image"
        if isinstance(error, ModuleNotFoundError):
            hint = f"put {error.name} beside the recipe or install it"
        raise RecipeError(f"{file} does not import: {type(error).__name__}: {error}{line}", do=hint) from error
    except SystemExit as error:
        raise RecipeError(f"{file} ends the program when it is imported", do="guard it with __main__") from error
    finally:
        sys.dont_write_bytecode = writes_bytecode
    if not lies_in(module, root):
        sys.modules.pop(name, None)
        raise RecipeError(f"{file} is named like an installed module {name!r}", do="rename the file")
    return module


def _is_own_class(value: object, module: ModuleType) -> bool:
    return inspect.isclass(value) and value.__module__ == module.__name__ and not issubclass(value, nn.Module)


def _made(cls: type[Any], where: str, arguments: Mapping[str, Any], facts: Facts) -> Loaded:
    file = where.partition(":")[0]
    missing = [name for name in REQUIRED if not callable(getattr(cls, name, None))]
    if missing:
        raise RecipeError(f"{where} lacks {', '.join(missing)}", do=f"define {', '.join(missing)} in {file}")
    try:
        inspect.signature(cls).bind(**arguments)
    except TypeError as error:
        raise RecipeError(
            f"{where} does not take train.recipe.with {sorted(arguments)} ({error})",
            do=f"give what its signature takes: {cls.__name__}{inspect.signature(cls)}",
        ) from None
    try:
        recipe = cls(**arguments)
        recipe.facts = facts
    except Exception as error:
        raise RecipeError(
            f"{where} could not be made: {type(error).__name__}: {error}{place(error)}",
            do=f"correct __init__ in {file}",
        ) from error
    return Loaded(recipe, facts, where=where)
