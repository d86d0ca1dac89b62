"""Showing something again whenever it changes, until Ctrl-C."""

import time
from collections.abc import Callable
from typing import Any

from modelyard_cli import output
from modelyard_cli.options import Output

_EVERY_S = 0.5


def watch(read: Callable[[], Any], *, empty: str) -> None:
    """A live table in a terminal; elsewhere the table again after each change. Ends by Ctrl-C or SIGTERM."""
    page = output.console()
    if page.is_terminal:
        from rich.live import Live  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        with Live(console=page, auto_refresh=False) as live:
            while True:
                data = read()
                live.update(output.table(data) if data else Text(empty), refresh=True)
                time.sleep(_EVERY_S)
    before = None
    while True:
        data = read()
        if data != before:
            output.show(data, Output.TABLE, empty=empty)
            before = data
        time.sleep(_EVERY_S)
