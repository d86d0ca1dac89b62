"""HTML that cannot be written unescaped: text becomes markup only through `el`, which escapes it."""

from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | Markup | None

_VOID = frozenset({"img", "meta", "br", "hr", "link"})


def text(child: Child) -> Markup:
    """A child as markup: None is nothing, markup stays, everything else is escaped."""
    if child is None:
        return Markup("")
    return child if isinstance(child, Markup) else Markup(escape(child))


def el(tag: str, *children: Child, **attributes: str | None) -> Markup:
    """An element. An attribute `class_` is `class`, `_` becomes `-`, None leaves it out; values are escaped.

    >>> el("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{named}>")
    return Markup(f"<{tag}{named}>{join(*children)}</{tag}>")


def join(*children: Child) -> Markup:
    """Children one after the other."""
    return Markup("".join(text(child) for child in children))
