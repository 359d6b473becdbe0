"""What this machine has for workers, cores and GPUs, and what it needs before they start."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
ON_CPU = "ACCELERATE_USE_CPU"
CUDA = "CUDA_VISIBLE_DEVICES"
VISIBLE = ("HIP_VISIBLE_DEVICES", CUDA)  # AMD's own name comes first where both are set


def one_openmp() -> None:
    """Let a Mac's libraries work side by side: faiss, LightGBM and PyTorch bring an OpenMP each
    there, and the second that starts ends the process (OMP: Error #15). What is set stays."""
    if sys.platform == "darwin":
        os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def cores() -> int:
    """Cores this process may use: its affinity, and a container's share of time where it has one.

    Hyper-threads count.
    """
    allowed, share = _allowed(), _quota(CGROUP)
    return allowed if share is None else max(1, min(allowed, math.floor(share + 0.5)))


def gpus() -> list[str]:
    """Values of CUDA_VISIBLE_DEVICES, one a GPU, that workers can be given; empty without GPUs.

    GPUs are those of NVIDIA and AMD: what else PyTorch knows cannot be dealt out by a variable.
    """
    if os.environ.get(ON_CPU, "").lower() in ("1", "true", "yes") or sys.platform == "darwin":
        return []
    # Asking torch takes seconds; on Linux a look at the devices spares most machines that.
    if sys.platform == "linux" and not any(
        Path("/dev").glob(pattern) for pattern in ("nvidia[0-9]*", "kfd")
    ):
        return []
    try:
        import torch
    except ImportError:
        return []
    count = torch.cuda.device_count()
    names = VISIBLE if torch.version.hip else (CUDA,)
    listed = next((os.environ[name] for name in names if os.environ.get(name)), "")
    given = [name.strip() for name in listed.split(",")]
    return given[:count] if given != [""] else [str(index) for index in range(count)]


def _allowed() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _quota(folder: Path) -> float | None:
    """Cores' worth of time that a container may use (cgroup 2, then 1); None without a limit."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError):
            quota, period = " ".join((folder / file).read_text() for file in files).split()
            return None if quota in ("max", "-1") else int(quota) / int(period)
    return None
