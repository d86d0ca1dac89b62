"""A problem with a field: what checks find, before anybody knows where in which file it stands."""

import difflib
import re
from collections.abc import Iterable

from modelyard.record import record

FieldPath = tuple[str, ...]
"""Names and indices from the root, as written: `("gates", "0", "atLeast")`."""


@record
class Problem:
    """What is wrong with which field."""

    field: FieldPath
    message: str
    at: FieldPath | None = None
    """Where to point, if not at the field itself (which may be missing)."""


def dotted(path: FieldPath) -> str:
    """A path as messages and `--set` spell it.

    >>> dotted(("gates", "0", "atLeast"))
    'gates.0.atLeast'
    """
    return ".".join(path)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be.

    Letters' case and separators do not count; initials do (`learnRate` is `lr`).

    >>> nearest("learnRate", ["name", "lr"]), nearest("weight_decay", ["weightDecay"]), nearest("zebra", ["lr"])
    ('lr', 'weightDecay', None)
    """
    by_letters = {_letters(one): one for one in known}
    initials = "".join(word[0] for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", name)).lower()
    for exact in (_letters(name), initials):
        if exact in by_letters:
            return by_letters[exact]
    close = difflib.get_close_matches(_letters(name), by_letters, n=1, cutoff=0.6)
    return by_letters[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that nobody knows.

    >>> did_you_mean("acuracy", ["accuracy", "f1"]), did_you_mean("zebra", ["accuracy", "f1"])
    ('did you mean accuracy?', 'known are accuracy, f1')
    """
    names = sorted(known)
    guess = nearest(name, names)
    if guess:
        return f"did you mean {guess}?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"known are {shown}" if names else "nothing is known here"


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
