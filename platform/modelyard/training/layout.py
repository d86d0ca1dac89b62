"""Which part each process has: processes that share a layer stand side by side, and see the same examples. Pure."""

from modelyard.errors import BadInput
from modelyard.record import record
from modelyard.spec.train import TrainStrategy


@record
class Layout:
    """One process among all: `world` = data processes × `tensor`."""

    rank: int = 0
    world: int = 1
    tensor: int = 1
    """Processes that share each layer."""

    @property
    def data_rank(self) -> int:
        """Whose examples this process sees."""
        return self.rank // self.tensor

    @property
    def data_world(self) -> int:
        """Processes that see different examples."""
        return self.world // self.tensor


def layout_of(strategy: TrainStrategy, *, rank: int, world: int) -> Layout:
    """The place of process `rank` of `world`.

    Raises:
        BadInput: `tensorParallel` cannot act, or does not divide the processes.
    """
    share, where = strategy.tensor_parallel, "train.strategy.tensorParallel"
    if share > 1 and strategy.type != "FSDP2":
        raise BadInput(f"{where} cannot act under {strategy.type}", do="write train.strategy.type: FSDP2")
    if share < 1 or world % share:
        raise BadInput(
            f"{where}: {world} processes cannot be dealt out in groups of {share}", do="change train.resources or it"
        )
    return Layout(rank=rank, world=world, tensor=share)
