"""The only file that asks which machine this is: device, precision, memory, seeds, folders, environment, and which of
the processes of a run (ranks) this one is."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import inspect
import logging
import os
import platform
import random
import resource
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from tuneful.core.errors import InputError
from tuneful.core.types import Batch

PrecisionName = Literal["auto", "fp32", "bf16"]
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
KEEP_BYTES = 1 << 30
READ_BYTES = 1 << 28  # far more than any cache holds
PATIENCE = timedelta(days=2)  # a rank waits while the first one measures; torchrun ends those whose partner is gone
CONTROL_GROUP = Path("/sys/fs/cgroup")  # of this process, where it runs in a container
MATMUL_SHAPE = (256, 576, 1536)  # rows, in, out: a small language model's feed-forward product


@dataclass(frozen=True, slots=True)
class Machine:
    """What this computer can do; rates are measured, not looked up."""

    device: str
    name: str
    cores: int
    memory_mb: int
    fp32_gflops: float
    bf16_gflops: float

    @property
    def fastest(self) -> Literal["fp32", "bf16"]:
        # A tie goes to fp32: same speed, no rounding.
        return "bf16" if self.bf16_gflops > 1.2 * self.fp32_gflops else "fp32"


def pick_device() -> torch.device:
    """CUDA, then Apple's MPS, then the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@cache
def machine() -> Machine:
    """Measured once a process, in well under a second."""
    device = pick_device()
    return Machine(
        device=device.type,
        name=torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine(),
        cores=cores(),
        memory_mb=memory_mb(),
        fp32_gflops=matmul_gflops(torch.float32, device),
        bf16_gflops=matmul_gflops(torch.bfloat16, device),
    )


def matmul_gflops(
    dtype: torch.dtype, device: torch.device, seconds: float = 0.05, shape: tuple[int, int, int] = MATMUL_SHAPE
) -> float:
    """Median rate of a product of rows x in by in x out, in 1e9 floating-point operations a second."""
    rows, inner, outer = shape
    left, right = torch.randn(rows, inner, device=device), torch.randn(outer, inner, device=device)
    left, right = left.to(dtype), right.to(dtype).T
    return 2 * rows * inner * outer / _median_seconds(lambda: left @ right, device, seconds) / 1e9


def read_gigabytes(device: torch.device, seconds: float = 0.2) -> float:
    """Median rate at which memory is read, in 1e9 bytes a second: what bounds writing, where every weight is read
    for each new token."""
    numbers = torch.ones(READ_BYTES // 4, device=device)
    return READ_BYTES / _median_seconds(numbers.sum, device, seconds) / 1e9


def _median_seconds(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or len(times) < 3:
        begin = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def precision(name: PrecisionName) -> torch.dtype:
    """The dtype products run in: as asked, or the faster of the two on this machine."""
    chosen = machine().fastest if name == "auto" else name
    return torch.bfloat16 if chosen == "bf16" else torch.float32


def cores() -> int:
    """Processors this process may use, its share where several work here; OMP_NUM_THREADS, as everywhere, says
    otherwise."""
    if (asked := os.environ.get("OMP_NUM_THREADS", "")).isdigit() and int(asked) > 0:
        return int(asked)
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, here // _local("LOCAL_WORLD_SIZE", 1))


def share_cores(processes: int) -> None:
    """For processes that are started from this one: torchrun would give each a single core."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // processes)))


def prepare_process() -> None:
    """What this process should be before it computes; called at the start of a run."""
    # torch counts the machine's cores, not the ones this process may use.
    if torch.get_num_threads() != cores():
        torch.set_num_threads(cores())
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Every step of a training loop frees what the next one asks for again. glibc hands large blocks back to the
    system at once, and getting them again costs a fault for each page: a tenth of a step."""
    with contextlib.suppress(OSError, AttributeError):
        settings = ctypes.CDLL(None).mallopt
        settings(M_TRIM_THRESHOLD, KEEP_BYTES)
        settings(M_MMAP_MAX, 0)


def give_back_freed_memory() -> None:
    """Between two kinds of work: what the last one freed is of no use to the next, and would add to its peak."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def memory_mb() -> int:
    """Memory a model may use: the accelerator's, else what the system has available, or a container leaves of it."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory) >> 20
    free = int(psutil.virtual_memory().available)
    left = left_in(CONTROL_GROUP)
    return (free if left is None else min(free, left)) >> 20


def left_in(group: Path) -> int | None:
    """Bytes that the limit of a control group (cgroup v2) leaves, files that can be dropped counted as free; None where
    there is no limit."""
    try:
        most, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        kept = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if most == "max" else max(0, int(most) - used + int(kept.get("inactive_file", 0)))


def variable_length_attention(device: torch.device) -> Callable[..., Any] | None:
    """torch's own kernel for sequences of different length, where device and torch have one."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    # torch 2.10 knew it with other arguments.
    return varlen_attn if "window_size" in inspect.signature(varlen_attn).parameters else None


def memory_refused(error: BaseException) -> bool:
    """Whether an error says that there is no more memory. torch has a class of its own for accelerators only."""
    words = ("can't allocate memory", "DefaultCPUAllocator", "could not create a memory object")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(part in str(error) for part in words)


def used_memory_mb() -> int:
    """What this process holds now."""
    if torch.cuda.is_available():
        return int(torch.cuda.memory_allocated()) >> 20
    return int(psutil.Process().memory_info().rss) >> 20


def peak_memory_mb() -> int:
    """The most this process has held."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated()) >> 20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit >> 20


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_own(seed: int) -> None:
    """From here on every rank draws its own dropout; the first one draws on as before."""
    if rank():
        torch.manual_seed(int(np.random.default_rng([seed, rank()]).integers(2**63)))


def random_state() -> dict[str, Any]:
    """Everything a later process needs to draw the same random numbers."""
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def join_ranks() -> None:
    """Meets the processes that torchrun, or what sets its variables, has started beside this one. Once a process; a
    process that stands alone has nobody to meet."""
    if _joined() or "RANK" not in os.environ or _local("WORLD_SIZE", 1) < 2:
        return
    if cuda := torch.cuda.is_available():
        devices, here = torch.cuda.device_count(), _local("LOCAL_WORLD_SIZE", 1)
        if here > devices:
            raise InputError(f"{here} processes were started on this computer, which has {devices} CUDA devices; "
                             f"each process needs its own: --nproc-per-node {devices}")  # fmt: skip
        torch.cuda.set_device(_local("LOCAL_RANK", 0))
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    atexit.register(dist.destroy_process_group)


def rank() -> int:
    """Which of the processes of this run this one is."""
    return dist.get_rank() if _joined() else 0


def world() -> int:
    """How many processes work on this run."""
    return dist.get_world_size() if _joined() else 1


def is_first() -> bool:
    """The one that writes, prints and measures."""
    return rank() == 0


def is_first_here() -> bool:
    """The first one of its computer."""
    return world() == 1 or _local("LOCAL_RANK", 0) == 0


def ranks_here() -> int:
    """How many processes of this run compute on this device: each has its own accelerator, and all share a CPU."""
    return 1 if world() == 1 or pick_device().type != "cpu" else _local("LOCAL_WORLD_SIZE", 1)


@cache
def mesh() -> DeviceMesh:
    """All ranks in a row, for weights that are shared out."""
    return init_device_mesh(pick_device().type, (world(),))


def place(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device; the same object when it is there already."""
    if batch.weights.device == device:
        return batch
    return replace(
        batch,
        inputs={name: _to(value, device) for name, value in batch.inputs.items()},
        targets={name: _to(value, device) for name, value in batch.targets.items()},
        weights=_to(batch.weights, device),
        groups=None if batch.groups is None else _to(batch.groups, device),
    )


def secret(name: str) -> str | None:
    """A key the person keeps in the environment, so that it stands in no file and no history."""
    return os.environ.get(name) or None


def cache_folder() -> Path:
    """`TUNEFUL_CACHE`, or `~/.cache/tuneful`."""
    return Path(os.environ.get("TUNEFUL_CACHE") or Path.home() / ".cache" / "tuneful")


def hush() -> None:
    """Libraries below us report through us: no progress bars, no advice, no telemetry."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="transformers|peft|torch|huggingface_hub|datasets")


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _local(name: str, otherwise: int) -> int:
    """What torchrun says of this process."""
    return int(os.environ.get(name) or otherwise)


def _to(value: Tensor, device: torch.device) -> Tensor:
    return value.to(device, non_blocking=True)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()
