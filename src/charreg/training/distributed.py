"""What training needs of torch.distributed: one process or many, the same global batches and the same steps."""

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from charreg.core.tensors import compute_device


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def start(device: str = "") -> torch.device:
    """Join the other processes when started by torchrun; the device this process computes on.

    device: as `charreg.core.tensors.compute_device` has it. gloo joins CPUs, NCCL joins GPUs.
    """
    found = compute_device(device)
    if "TORCHELASTIC_RUN_ID" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if found.type == "cuda" else "gloo")
        if found.type == "cuda":
            found = torch.device(f"cuda:{os.environ['LOCAL_RANK']}")
            torch.cuda.set_device(found)
    return found


def stop() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def average(tensors: list[Tensor]) -> None:
    """Replace tensors by their mean over the processes, in place, in one exchange."""
    if world_size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat /= world_size()
    offset = 0
    for tensor in tensors:
        tensor.copy_(flat[offset : offset + tensor.numel()].view_as(tensor))
        offset += tensor.numel()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Mean gradient over the processes: with equal shares of a batch, the gradient of the whole batch.

    This is what DistributedDataParallel does, at the one place where all jobs step, so that a job may call its
    networks as often as its losses ask.
    """
    average([parameter.grad for parameter in parameters if parameter.grad is not None])


def gather(x: Tensor) -> Tensor:
    """The tensors of all processes, concatenated in the order of the ranks; carries no gradient."""
    if world_size() == 1:
        return x.detach()
    parts = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(parts, x.detach().contiguous())
    return torch.cat(parts)


def first(number: int) -> int:
    """The number of the first process, in every process."""
    if world_size() == 1:
        return number
    told = torch.tensor(number, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.broadcast(told, 0)
    return int(told.item())


def anyone(flag: bool) -> bool:
    """True in every process when it is true in one."""
    if world_size() == 1:
        return flag
    votes = torch.tensor(float(flag), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(votes)
    return bool(votes.item() > 0)


def wait_for_all() -> None:
    if dist.is_initialized():
        dist.barrier()
