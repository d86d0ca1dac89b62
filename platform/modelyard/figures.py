"""Numbers as people read them: thousands apart, no exponent where none is needed, no minus before a zero."""

import math

_LARGE, _SMALL = 1e12, 1e-4
"""Beyond these, zeros would be counted: a power of ten says more."""


def number(value: float, digits: int = 4) -> str:
    """So many significant digits; whole numbers keep all theirs: `0.9315`, `2,312`, `1.5·10^-7`."""
    if not math.isfinite(value):
        return str(value)
    if not value:
        return "0"
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    if not _SMALL <= abs(value) < _LARGE:
        return f"{_trimmed(mantissa)}·10^{int(power)}"
    return _trimmed(f"{value:,.{max(0, digits - 1 - int(power))}f}")


def change(value: float, digits: int = 4) -> str:
    """A number with its sign, a plus too."""
    return ("+" if value > 0 else "") + number(value, digits)


def milliseconds(value: float) -> str:
    """Three digits with the unit that fits: `41.2 ms`, `2.3 s`."""
    return f"{number(value, 3)} ms" if abs(value) < 1000 else f"{number(value / 1000, 3)} s"


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`."""
    if abs(seconds) < 9.95:
        return f"{unsigned_zero(f'{seconds:.1f}')} s"
    if abs(seconds) < 119.5:
        return f"{seconds:.0f} s"
    return f"{round(seconds) // 60} min {round(seconds) % 60} s"


def signed(value: float, digits: int) -> str:
    """A difference with its sign, which is a real minus; what rounds to nothing has none."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else "0"


def unsigned_zero(text: str) -> str:
    """A number's text; `-0.0` as `0.0`."""
    return text if float(text) else text.removeprefix("-")


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
