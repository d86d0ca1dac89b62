"""Forks launchers from one process that imported torch once: each start takes milliseconds instead of seconds.

Reads lines of JSON `{"argv", "log"}`, answers each with the launcher's process number.
"""

import json
import os
import signal
import sys

from modelyard.processes import die_with_parent
from modelyard.training import launch


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a launcher asks for its ranks' exit codes
                os.setsid()
                die_with_parent()
                log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(log, 1)
                os.dup2(log, 2)
                code = launch.main(*asked["argv"])
            finally:
                os._exit(code)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks for exit codes: launchers write them down
    main()
