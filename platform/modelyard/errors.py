"""Every error that Modelyard raises on purpose.

    ModelyardError
    ├── BadInput            what was given cannot be used                      exit 2
    │   └── BadSpec         ... and it stands in a file, at a line and column
    ├── StageFailed         a stage could not do its work                      exit 1
    ├── Tampered            bytes differ from their digest or signature        exit 1
    ├── Unavailable         a system that is needed is away: try again         exit 1
    ├── Conflict            a record changed since it was read: look again     exit 1
    │   └── Owned           ... or another manager has a field otherwise       exit 1
    ├── Expired             a watch is too old to go on: list again            exit 1
    ├── Forbidden           rights are missing; names verb and resource        exit 1
    ├── NotInstalled        the cluster does not know a kind: a CRD is missing exit 1
    ├── Refused             the cluster refuses an object, and says why        exit 1
    ├── Busy                somebody else holds what is needed                 exit 1
    └── Stopped             a signal or a person asked to stop                 exit 130

Each message says what was wrong with which input and ends with what to do.
"""


class ModelyardError(Exception):
    """Base of all. `what` is wrong, `do` is the way out."""

    exit_code = 1

    def __init__(self, what: str, *, do: str) -> None:
        stop = "" if what.endswith(("?", "!")) else "."
        super().__init__(f"{what.rstrip('.')}{stop} {do[:1].upper()}{do[1:].rstrip('.')}.")
        self.what = what
        self.do = do

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the way between processes."""
        return (_rebuild, (type(self), self.what, self.do))


def _rebuild(cls: type[ModelyardError], what: str, do: str) -> ModelyardError:
    return cls(what, do=do)


class BadInput(ModelyardError):
    """What was given cannot be used; nothing was written."""

    exit_code = 2


class BadSpec(BadInput):
    """A field of a file cannot be used; `what` begins with `file:line:column`."""


class StageFailed(ModelyardError):
    """A stage could not do its work."""


class Tampered(ModelyardError):
    """Bytes differ from the digest or signature that they should have."""


class Unavailable(ModelyardError):
    """A system that is needed is away. What was there is intact."""

    retry_after: float | None = None
    """Seconds that the system asked to be left alone."""


class Conflict(ModelyardError):
    """A record changed since it was read."""


class Owned(Conflict):
    """Another manager owns a field and has it otherwise: looking again does not help, a person must decide."""


class Expired(ModelyardError):
    """What a watch should go on from is too old."""


class Forbidden(ModelyardError):
    """Rights are missing; the message names verb and resource."""


class NotInstalled(ModelyardError):
    """A cluster does not know a kind."""


class Refused(ModelyardError):
    """A cluster refuses what it was given; repeating it is in vain."""


class Busy(ModelyardError):
    """Somebody else holds what is needed; the message names the holder."""


class Stopped(ModelyardError):
    """A signal or a person asked to stop."""

    exit_code = 130
