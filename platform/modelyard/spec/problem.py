"""A problem with a field: what checks find, before anybody knows where in which file it stands."""

import difflib
import re
from collections.abc import Collection

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


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that `name` was probably meant to be.

    Letters' case and separators do not count; initials do, either way (`learnRate`: `lr`; `wer`: `word-error-rate`).

    >>> nearest("learnRate", ["name", "lr"]), nearest("weight_decay", ["weightDecay"]), nearest("zebra", ["lr"])
    ('lr', 'weightDecay', None)
    """
    by_letters = {_letters(one): one for one in known}
    by_initials = {_initials(one): one for one in known}
    for table, spelled in ((by_letters, _letters(name)), (by_letters, _initials(name)), (by_initials, _letters(name))):
        if len(spelled) > 1 and spelled in table:
            return table[spelled]
    close = difflib.get_close_matches(_letters(name), by_letters, n=1, cutoff=0.6)
    return by_letters[close[0]] if close else None


def did_you_mean(name: str, known: Collection[str]) -> str:
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


def _initials(name: str) -> str:
    return "".join(word[0] for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", name)).lower()


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
