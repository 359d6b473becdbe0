"""A persistent group of processes that trains trial after trial.

Started by `torchrun` or `accelerate launch`, or plain Python for one device. Rank 0 decides; the
others serve. Start-up, NCCL and compilation are paid once for a whole search.

    data plane     the default process group (NCCL on GPUs, gloo on CPUs): gradients. It times out,
                   so that a rank that hangs ends the group and the launcher starts it again.
    control plane  a gloo group that may wait for days: jobs and verdicts. Between two trials the
                   sampler may think as long as it likes.

A failure that every rank sees (non-finite loss, out of memory found in the rehearsal) fails the
trial and keeps the group. A failure of one rank alone (a crash, SIGKILL) ends the group;
`torchrun --max-restarts` starts it again and the slot resumes from its checkpoint.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from climb_opt.errors import Interrupted, TrialFailed, UserError
from climb_opt.proxy.curves import curves_here
from climb_opt.proxy.job import Watch
from climb_opt.signals import handling

log = logging.getLogger(__name__)

DATA_TIMEOUT = timedelta(minutes=5)  # longer than the compilation of a 1B proxy, by estimate
CONTROL_TIMEOUT = timedelta(days=7)

T = TypeVar("T")
Precision = Literal["auto", "fp32", "bf16"]
_CLOSE = None


def check_launch() -> None:
    """Refuse a launch that does not give the processes or devices that were asked for.

    Raises:
        UserError: `accelerate launch --cpu --num_processes N` started one process, or there are
            more processes than GPUs on this machine.
    """
    env = os.environ
    # accelerate's "simple launcher" runs one process whatever --num_processes says; what gives it
    # away is the address of processes that were never started (accelerate 1.15).
    if "ACCELERATE_MIXED_PRECISION" in env and "MASTER_ADDR" in env and "WORLD_SIZE" not in env:
        raise UserError(
            "accelerate launch was asked for several processes but started only one (it does so "
            "with --cpu). Use `torchrun --standalone --nproc_per_node N -m climb_opt ...`."
        )
    local = int(env.get("LOCAL_WORLD_SIZE", "1"))
    if torch.cuda.is_available() and not _on_cpu() and local > torch.cuda.device_count():
        raise UserError(
            f"{local} processes were asked for on this machine, but it has "
            f"{torch.cuda.device_count()} GPUs. Start at most one process a GPU."
        )


class ProxyGroup:
    """The processes of one worker, and how they agree.

    Args:
        precision: "bf16", "fp32", or "auto" for bf16 where the device has it.

    Raises:
        UserError: the launch is not what it seems (see `check_launch`), or the process already
            trains in another precision.
    """

    def __init__(self, precision: Precision = "auto") -> None:
        check_launch()
        _meet_again()
        try:
            self.accelerator = _accelerator(precision)
        except ValueError as error:
            if "MASTER_ADDR" in str(error):
                raise UserError(
                    f"WORLD_SIZE says {_launched()} processes, but no address to meet at is set. "
                    "Start them with torchrun or accelerate launch, or unset WORLD_SIZE."
                ) from None
            raise UserError(
                f"precision {precision!r}: this process already trains in another precision; use "
                f"one process per precision ({error})."
            ) from None
        self.rank = int(self.accelerator.process_index)
        self.is_main = self.rank == 0  # it decides
        self.world = int(self.accelerator.num_processes)
        self.device = self.accelerator.device
        if self.world != _launched():
            raise UserError(
                f"WORLD_SIZE says {_launched()} processes, but this one sees {self.world}. Start "
                "them with torchrun or accelerate launch, one process a device."
            )
        self.curves = curves_here(is_main=self.is_main)
        self._control: Any = None
        if self.world > 1:
            self._control = torch.distributed.new_group(backend="gloo", timeout=CONTROL_TIMEOUT)
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")

    @property
    def device_name(self) -> str:
        """What a rank trains on, for a trial's facts: "cpu", "NVIDIA H100 80GB HBM3"."""
        cuda = self.device.type == "cuda"
        return str(torch.cuda.get_device_name(self.device)) if cuda else str(self.device.type)

    def use(self, precision: Precision) -> None:
        """Train in another precision from here on; the processes stay as they are."""
        if _mixed(precision) != self.accelerator.mixed_precision:
            AcceleratorState._reset_state()  # else it refuses; accelerate has no other way
            self.accelerator = _accelerator(precision)

    def share(self, value: T) -> T:
        """Rank 0's `value`, on every rank; waits for rank 0 as long as it takes."""
        if self._control is None:
            return value
        box = [value]
        with self._ending_the_group():
            torch.distributed.broadcast_object_list(box, src=0, group=self._control)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Every rank's `value`, in the order of ranks, on every rank."""
        if self._control is None:
            return [value]
        box: list[Any] = [None] * self.world
        with self._ending_the_group():
            torch.distributed.all_gather_object(box, value, group=self._control)
        return box

    def run(self, work: Callable[[Any], T], job: Any) -> T:
        """Do `job` on every rank (the others are in `serve`); rank 0's result.

        Raises:
            TrialFailed, Interrupted: as `work` raised it, on this or another rank.
        """
        self.share(("job", job))
        return self._do(work, job)

    def serve(self, work: Callable[[Any], Any]) -> None:
        """Ranks above 0: do rank 0's jobs until it closes the group."""
        # Ctrl-C and a launcher's SIGTERM reach every rank. Rank 0 decides what to do, at a step all
        # ranks agree on; a rank that left on its own would turn a clean stop into a crash.
        with handling(dict.fromkeys((signal.SIGINT, signal.SIGTERM), signal.SIG_IGN)):
            while (message := self.share(_CLOSE)) is not _CLOSE:
                try:
                    self._do(work, message[1])
                except (TrialFailed, Interrupted) as verdict:
                    log.debug("rank %d: %s", self.rank, verdict)  # rank 0 reports it
        # A process that ends with a live process group may abort in gloo's threads.
        self.close()

    def close(self) -> None:
        """Let the other ranks return from `serve`, and leave the process group."""
        if self.is_main:
            self.share(_CLOSE)
        if self._control is not None and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        self._control = None

    def _do(self, work: Callable[[Any], T], job: Any) -> T:
        verdict: TrialFailed | Interrupted | None = None
        result: Any = None
        try:
            with self._ending_the_group():
                result = work(job)
        except (TrialFailed, Interrupted) as error:
            # The traceback's frames hold the model, which is to be freed.
            verdict = error.with_traceback(None)
            verdict.__context__ = None
        finally:
            self.curves.end()
        self.free()
        if verdicts := [v for v in self.gather(verdict) if v is not None]:
            raise verdicts[0]
        return result

    @contextmanager
    def _ending_the_group(self) -> Iterator[None]:
        # An error of one rank leaves the others waiting for it, and a rank that is gone breaks the
        # connections for good. `SystemExit` passes everything that would go on with the next trial.
        try:
            yield
        except (TrialFailed, Interrupted):
            raise
        except Exception:
            if self.world == 1:
                raise
            log.exception("Rank %d cannot go on; the group ends.", self.rank)
            raise SystemExit(1) from None

    def free(self) -> None:
        """Give back what a trial held; without this every model of a search stays alive."""
        self.accelerator.free_memory()
        gc.collect()  # again: accelerate lets go of its models after it has collected
        # What is left is the program; later collections skip it (0.16 CPU-seconds each).
        gc.freeze()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


class Pulse:
    """Every rank asks rank 0 at the same steps, about once a second, whether to stop."""

    def __init__(self, group: ProxyGroup, watch: Watch) -> None:
        self.group, self.watch = group, watch
        self.next, self.asked_at, self.asked_step = 0, time.perf_counter(), 0

    def stop_now(self, step: int) -> bool:
        if step < self.next:
            return False
        if self.group.world == 1:
            return self.watch.stop()
        stop, self.next = self.group.share(self._answer(step))
        return stop

    def _answer(self, step: int) -> tuple[bool, int]:
        now = time.perf_counter()
        rate = (step - self.asked_step) / max(now - self.asked_at, 1e-9)  # steps a second
        self.asked_at, self.asked_step = now, step
        return self.watch.stop(), step + max(1, int(rate))


def _accelerator(precision: Precision) -> Accelerator:
    return Accelerator(
        mixed_precision=_mixed(precision),
        # Without it, torchrun's processes on a machine without a GPU would each be alone.
        cpu=_on_cpu() or (_launched() > 1 and not torch.cuda.is_available()),
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=DATA_TIMEOUT),
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
        ],
    )


def _mixed(precision: Precision) -> str:
    return {"fp32": "no", "bf16": "bf16", "auto": "bf16" if _has_bf16() else "no"}[precision]


def _meet_again() -> None:
    """Join the process group of a restart under keys of its own.

    Since torch 2.5 torchrun serves all attempts from one store, and a restarted rank may connect to
    an address that a dead one left there (pytorch#135712). Workers on several machines count
    restarts differently: they need TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 around torchrun instead.
    """
    env = os.environ
    attempt, world = env.get("TORCHELASTIC_RESTART_COUNT", "0"), env.get("WORLD_SIZE", "1")
    shared = env.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if attempt == "0" or not shared or torch.distributed.is_initialized():
        return
    if env.get("LOCAL_WORLD_SIZE") != world:
        log.warning(
            "The group was restarted. If it does not connect, start torchrun with "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 (pytorch#135712)."
        )
        return
    store = torch.distributed.TCPStore(
        env["MASTER_ADDR"], int(env["MASTER_PORT"]), int(world), is_master=False
    )
    cuda = torch.cuda.is_available() and not _on_cpu()
    if cuda:
        torch.cuda.set_device(int(env["LOCAL_RANK"]))
    torch.distributed.init_process_group(
        "nccl" if cuda else "gloo",
        store=torch.distributed.PrefixStore(f"attempt-{attempt}", store),
        rank=int(env["RANK"]),
        world_size=int(world),
        timeout=DATA_TIMEOUT,
    )


def _launched() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _on_cpu() -> bool:
    return os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true", "yes")


def _has_bf16() -> bool:
    return torch.cuda.is_available() and not _on_cpu() and torch.cuda.is_bf16_supported()
