"""Errors say what was wrong and what to do, with the exit code that is documented."""

import pickle

import pytest

from modelyard import errors
from modelyard.errors import BadInput, BadSpec, ModelyardError, Stopped


def test_a_message_ends_with_what_to_do() -> None:
    error = BadInput("labels.csv is empty", do="give a file with a header")
    assert str(error) == "labels.csv is empty. Give a file with a header."
    assert (error.what, error.do) == ("labels.csv is empty", "give a file with a header")


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("it is gone.", "it is gone. Look again."),
        ("did you mean lr?", "did you mean lr? Look again."),
        ("it stopped!", "it stopped! Look again."),
    ],
)
def test_a_message_has_one_stop_after_each_sentence(what: str, told: str) -> None:
    assert str(ModelyardError(what, do="look again.")) == told


def test_words_that_begin_with_a_name_keep_it() -> None:
    assert str(BadInput("no", do="MLflow must be up")) == "no. MLflow must be up."


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("BadInput", 2), ("BadSpec", 2), ("StageFailed", 1), ("Tampered", 1), ("Unavailable", 1), ("Conflict", 1),
        ("Busy", 1), ("Stopped", 130), ("Expired", 1), ("Forbidden", 1), ("NotInstalled", 1), ("Refused", 1),
        ("Owned", 1),
    ],
)  # fmt: skip
def test_each_kind_ends_the_command_with_its_code(kind: str, code: int) -> None:
    assert getattr(errors, kind).exit_code == code
    assert f"{kind} " in (errors.__doc__ or "")


def test_an_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(BadSpec("a:1:2: b", do="c")))
    assert type(error) is BadSpec
    assert str(error) == "a:1:2: b. C."
    assert (error.what, error.do) == ("a:1:2: b", "c")


def test_every_error_is_one_of_ours() -> None:
    assert issubclass(BadSpec, BadInput)
    assert issubclass(Stopped, ModelyardError)
    assert not issubclass(ModelyardError, ValueError)
