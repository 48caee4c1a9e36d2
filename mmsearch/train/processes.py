"""The processes of a training: one, or several that ``torchrun`` started."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta

import torch
from torch import Tensor, nn

from mmsearch.errors import UsageError

PATIENCE = timedelta(days=2)  # the first makes features while the others wait


class Processes:
    """This process among its fellows. device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""

    def __init__(self, device: str = "auto", threads: int = 0) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if threads:
            torch.set_num_threads(threads)
        self.device = self._device(device)
        if self.count > 1 and not torch.distributed.is_initialized():
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            torch.distributed.init_process_group(backend, timeout=PATIENCE)

    def _device(self, name: str) -> torch.device:
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cuda" and self.count > 1:
            name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        try:
            device = torch.device(name)
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as e:
            reason = (str(e).splitlines() or ["not there"])[0]
            raise UsageError(
                f"device {name!r} cannot be used: {reason}. Try device = 'cpu'."
            ) from None
        if device.type == "cuda":
            torch.cuda.set_device(device)
        return device

    @property
    def first(self) -> bool:
        """Whether this is the one that talks and writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            torch.distributed.barrier()

    def any(self, here: bool) -> bool:
        """Whether it is so in any of them."""
        if self.count == 1:
            return here
        found = torch.tensor([int(here)], device=self.device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return bool(found.item())

    def end(self) -> None:
        """Lets go of the others."""
        if self.count > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def share(self, n: int) -> slice:
        """This process's rows of n."""
        return self._share(n, self.rank)

    def _share(self, n: int, rank: int) -> slice:
        return slice(n * rank // self.count, n * (rank + 1) // self.count)

    def gathered(self, own: Tensor, n: int) -> Tensor:
        """All n rows, from every process's own; without a gradient."""
        if self.count == 1:
            return own.detach()
        most = -(-n // self.count)
        width = torch.tensor([own.shape[1]], device=self.device)
        torch.distributed.all_reduce(width, torch.distributed.ReduceOp.MAX)
        padded = torch.zeros((most, int(width)), device=self.device)
        if len(own):
            padded[: len(own)] = own
        every = [torch.empty_like(padded) for _ in range(self.count)]
        torch.distributed.all_gather(every, padded)
        parts = []
        for rank, one in enumerate(every):
            share = self._share(n, rank)
            parts.append(one[: share.stop - share.start])
        return torch.cat(parts)

    def add_up(self, weights: Iterable[nn.Parameter]) -> None:
        """Sums the gradients over all processes: each made its own rows' part of them."""
        if self.count == 1:
            return
        for weight in weights:
            if weight.requires_grad:
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
                torch.distributed.all_reduce(weight.grad)
