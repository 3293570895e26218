"""Which device, which precision, and which of several processes this is.

CUDA, bf16 on CUDA and NCCL follow PyTorch's documentation but were never run by the authors on a GPU;
the CPU path and two gloo processes are tested.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from msacat.catalog.errors import UsageError

DEVICES = ("auto", "cpu", "cuda")


def choose_device(wanted: str, local_rank: int = 0) -> torch.device:
    """`auto` takes CUDA where there is one. UsageError for another word, and if `cuda` is asked and absent."""
    if wanted not in DEVICES:
        raise UsageError("unknown device", expected=", ".join(DEVICES), found=wanted)
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError(
            "no CUDA device found", expected="a CUDA build of torch and a GPU", next_step="use --device cpu"
        )
    return torch.device("cuda", local_rank)


def choose_autocast(bf16: str, device: torch.device) -> torch.dtype | None:
    """bf16 only where the hardware multiplies in it; elsewhere it is emulated and several times slower."""
    if bf16 == "off":
        return None
    if bf16 == "on":
        return torch.bfloat16
    if device.type == "cuda":
        # not is_bf16_supported(), which counts emulation as support
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else None
    return torch.bfloat16 if _cpu_multiplies_bf16() else None


def _cpu_multiplies_bf16() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:  # not Linux: no cheap way to know, so stay in fp32
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


@dataclass(frozen=True)
class Workers:
    """This process among those started by torchrun (RANK, WORLD_SIZE); one alone without it."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @staticmethod
    def join(device_wanted: str) -> Workers:
        """Read torchrun's environment and join its group (nccl on CUDA, gloo elsewhere)."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return Workers()
        cuda = device_wanted != "cpu" and torch.cuda.is_available()
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if cuda:
            # Pinned memory and NCCL belong to the current GPU: without this every process would open the first one too.
            torch.cuda.set_device(local_rank)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if cuda else "gloo")
        return Workers(dist.get_rank(), world, local_rank)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def mean(self, tensors: list[Tensor]) -> None:
        """Average in place over the processes: one message for all."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([t.flatten() for t in tensors])
        dist.all_reduce(flat)
        flat /= self.world
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def same_as_first(self, tensors: list[Tensor]) -> None:
        """Overwrite with the first process's values."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def first_says(self, value: float, device: torch.device) -> float:
        """The first process's `value`, so that all decide alike."""
        if self.world == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64, device=device)
        dist.broadcast(tensor, 0)
        return float(tensor)

    def gather(self, numbers: list[int], device: torch.device) -> list[list[int]]:
        """Every process's `numbers`, in order of rank."""
        if self.world == 1:
            return [numbers]
        mine = torch.tensor(numbers, dtype=torch.int64, device=device)
        every = [torch.zeros_like(mine) for _ in range(self.world)]
        dist.all_gather(every, mine)
        return [t.tolist() for t in every]

    def any_says(self, flag: bool, device: torch.device) -> bool:
        if self.world == 1:
            return flag
        tensor = torch.tensor([float(flag)], device=device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return bool(tensor > 0)
