"""`.modelyardignore`: gitignore's syntax, as a list of rules of which the last match decides."""

import re
from collections.abc import Callable

ALWAYS = (".git", ".modelyard", ".venv", "__pycache__", "*.pyc")
"""Never packed: not code, or made from it."""


def ignored_by(text: str) -> Callable[[str, bool], bool]:
    """A test for relative paths (with `/`) and whether they are folders.

    As in git, a folder that is left out takes its content with it, `!` takes back, a pattern with a
    slash before its end is anchored at the top, and `**` spans folders.

    >>> out = ignored_by("data/" + chr(10) + "*.log" + chr(10) + "!keep.log")
    >>> out("data", True), out("a/b.log", False), out("keep.log", False), out("data", False)
    (True, True, False, False)
    """
    rules = [rule for line in text.splitlines() if (rule := _rule(line))]
    always = [rule for line in ALWAYS if (rule := _rule(line))]

    def ignored(path: str, is_folder: bool) -> bool:
        if any(pattern.fullmatch(path) for pattern, _, _ in always):
            return True
        out = False
        for pattern, takes_back, folders_only in rules:
            if (is_folder or not folders_only) and pattern.fullmatch(path):
                out = not takes_back
        return out

    return ignored


def _rule(line: str) -> tuple[re.Pattern[str], bool, bool] | None:
    """One line as (pattern of whole paths, takes back, folders only)."""
    line = re.sub(r"(?<!\\) +$", "", line.rstrip("\r\n"))
    if not line or line.startswith("#"):
        return None
    takes_back = line.startswith("!")
    line = line.removeprefix("!")
    folders_only = line.endswith("/")
    line = line.rstrip("/")
    anchored = "/" in line
    body = _translate(line.lstrip("/"))
    return re.compile(body if anchored else f"(?:.*/)?{body}", re.DOTALL), takes_back, folders_only


def _translate(glob: str) -> str:
    """A gitignore glob as a regular expression of the whole path."""
    out, at = "", 0
    while at < len(glob):
        if glob.startswith("**/", at) and (at == 0 or glob[at - 1] == "/"):
            out, at = out + "(?:.*/)?", at + 3
        elif glob.startswith("**", at) and at + 2 == len(glob) and at > 0 and glob[at - 1] == "/":
            out, at = out + ".+", at + 2
        elif glob[at] == "*":
            out, at = out + "[^/]*", at + 1
        elif glob[at] == "?":
            out, at = out + "[^/]", at + 1
        elif glob[at] == "[" and (end := glob.find("]", at + 2)) > 0:
            inside = glob[at + 1 : end].replace("\\", "\\\\")
            inside = "^" + inside[1:] if inside[0] in "!^" else inside
            out, at = out + f"(?!/)[{inside}]", end + 1
        else:
            at += glob[at] == "\\" and at + 1 < len(glob)
            out, at = out + re.escape(glob[at]), at + 1
    return out
