"""torchrun in one node of a cluster: its own arguments and rendezvous, by the PET_* variables that operators set.

`python -m modelyard.training.agent JOB OUT CODE` is `torchrun -m modelyard.training.rank JOB OUT CODE`, but for two
things: each line of a rank begins with its rank in the whole world, and what the ranks ended with is written down.
"""

import json
import os
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import elastic_launch
from torch.distributed.run import config_from_args, get_args_parser

from modelyard.processes import die_with_parent
from modelyard.storage.atomic import write_text
from modelyard.training.files import EXITS

SAVING_S = 90
"""From SIGTERM to SIGKILL of the ranks, which save a checkpoint meanwhile; less than the pod's grace."""
PREFIX = "[rank ${rank}] "
"""What each line of a rank begins with."""


def main(job: str, out: str, code: str) -> int:
    """Run the ranks of this node; leaves exit codes of those that failed in `exits.json`.

    Returns:
        0 when all ended well, 143 when a signal ended them, else 1.
    """
    die_with_parent()
    os.environ["TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE"] = PREFIX
    folder = Path(out)
    settings = ["--tee=3", f"--log-dir={folder / 'ranks'}", "--monitor-interval=0.1", f"--shutdown-timeout={SAVING_S}"]
    arguments = get_args_parser().parse_args([*settings, "-m", "modelyard.training.rank", job, out, code])
    config, command, rest = config_from_args(arguments)
    try:
        elastic_launch(config=config, entrypoint=command)(*rest)
    except ChildFailedError as error:
        failed = {str(rank): failure.exitcode for rank, failure in error.failures.items()}
        write_text(folder / EXITS, json.dumps(failed))
        return 1
    except SignalException:
        return 143
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
