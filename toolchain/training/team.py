"""Several processes that train one network: torch's distributed data parallel under `torchrun`.

Every process works on its share of each batch and of each evaluation; the first of them, the leader, writes files
and reports progress.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others, which may be decoding a large data set."""


@dataclass(frozen=True)
class Team:
    """This process's place (`rank`, 0 is the leader) among `size` processes."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Every `size`-th item: what this process works on."""
        return items[self.rank :: self.size]

    def all_gather(self, mine: Sequence[T]) -> list[T]:
        """All processes' results for their `share`, in the order of the whole."""
        if self.size == 1:
            return list(mine)
        parts: list[Any] = [None] * self.size
        distributed.all_gather_object(parts, list(mine))
        whole: list[Any] = [None] * sum(len(part) for part in parts)
        for rank, part in enumerate(parts):
            whole[rank :: self.size] = part
        return whole

    def broadcast(self, make: Callable[[], T]) -> T:
        """What `make` returns in the leader, in every process; the others do not call it."""
        if self.size == 1:
            return make()
        box: list[Any] = [make() if self.leads else None]
        distributed.broadcast_object_list(box)
        result: T = box[0]
        return result

    @torch.no_grad()
    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace floats in place by their means over the processes."""
        for tensor in tensors:
            if self.size > 1 and tensor.is_floating_point():
                distributed.all_reduce(tensor)
                tensor /= self.size

    def parallel(self, network: nn.Module, device: torch.device) -> nn.Module:
        """`network` with gradients averaged over the processes."""
        if self.size == 1:
            return network
        return nn.parallel.DistributedDataParallel(
            network, device_ids=[device.index] if device.type == "cuda" else None, broadcast_buffers=False
        )


@contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """The team that `torchrun` started this process in; a team of one without `torchrun`."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Team()
        return
    # Objects are gathered on the CPU, gradients where they are.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
