"""What this machine can compute with: which device, how much memory, which precisions, and how fast it is."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from talent_factory.core.errors import UsageError
from talent_factory.core.records import Record

if TYPE_CHECKING:
    from talent_factory.training.config import Device, Precision, TrainConfig

Kind = Literal["cpu", "cuda", "mps"]

QUIET_THREADS = 4
_QUIET_WATERMARKS = {"PYTORCH_MPS_HIGH_WATERMARK_RATIO": "0.6", "PYTORCH_MPS_LOW_WATERMARK_RATIO": "0.4"}

# Dense bf16 or fp16 products with fp32 sums, in TFLOP/s, as the makers state them; read the first that fits.
_KNOWN_TFLOPS: tuple[tuple[str, float], ...] = (
    ("B200", 2250.0), ("H200", 790.0), ("H100", 790.0), ("A100", 312.0), ("A40", 150.0), ("L40S", 362.0),
    ("L40", 181.0), ("L4", 121.0), ("A10", 125.0), ("V100", 125.0), ("T4", 65.0), ("6000 Ada", 364.0),
    ("A6000", 155.0), ("5090", 210.0), ("5080", 113.0), ("5070 Ti", 88.0), ("5070", 62.0), ("4090", 165.0),
    ("4080", 98.0), ("4070 Ti", 80.0), ("4070", 58.0), ("4060 Ti", 44.0), ("4060", 30.0), ("3090", 71.0),
    ("3080", 60.0), ("3070", 41.0), ("3060", 25.5), ("2080", 45.0), ("2070", 30.0), ("2060", 26.0),
)  # fmt: skip


class DeviceFacts(Record):
    """What was found; memory in bytes. On a GPU it is the card's own, else the machine's."""

    kind: Kind
    name: str
    memory: int
    free: int
    cores: int
    bf16: bool
    """Whether products in bf16 are native, hence faster than in fp32."""
    fp8: bool = False
    """Whether weights may be stored in fp8."""
    peak_flops: float | None = None
    """What the maker states for bf16 or fp16, in FLOP/s; None where nothing is known."""

    @property
    def budget(self) -> int:
        """Bytes that a training may plan with."""
        # a GPU's desktop and driver, or the other programs of the machine, live on what is left
        return min(self.free, int(self.memory * 0.95))


class Pace(Record):
    """How fast this device is: FLOP/s in products, bytes/s of memory, seconds to begin one operation."""

    flops: float
    bandwidth: float
    launch: float
    low: float
    """Times the predicted seconds: the least to be expected."""
    high: float
    """Times the predicted seconds: the most to be expected."""
    source: str
    """Who says so."""


def device_facts(wanted: Device = "auto") -> DeviceFacts:
    """The device that a config's `device` stands for. Raises UsageError when it is not there."""
    if wanted == "mps" or (wanted == "auto" and apple_silicon()):
        return _mps()
    if wanted == "cpu":
        return _cpu()
    import torch

    if torch.cuda.is_available():
        return _cuda()
    if wanted == "cuda":
        raise UsageError("device cuda is asked for, but torch sees no GPU", remedy="write device: cpu")
    return _cpu()


def count_gpus() -> int:
    """CUDA devices that torch sees here."""
    import torch

    return torch.cuda.device_count()


def apple_silicon() -> bool:
    """Whether this is a Mac with a GPU that torch calls mps; asked without torch."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def known_flops(name: str) -> float | None:
    """What the maker of a GPU states for bf16 or fp16, in FLOP/s; None when `name` is not known."""
    return next((tflops * 1e12 for known, tflops in _KNOWN_TFLOPS if known in name), None)


def _cuda() -> DeviceFacts:
    import torch

    free, total = torch.cuda.mem_get_info()
    capability = torch.cuda.get_device_capability()
    name = torch.cuda.get_device_name()
    return DeviceFacts(
        kind="cuda",
        name=name,
        memory=int(total),
        free=int(free),
        cores=usable_cores(),
        bf16=capability >= (8, 0),
        fp8=capability >= (8, 9),
        peak_flops=known_flops(name),
    )


def _mps() -> DeviceFacts:
    import torch

    if not torch.backends.mps.is_available():
        raise UsageError("device mps is asked for, but torch sees no Apple GPU", remedy="write device: cpu")
    import psutil

    memory = psutil.virtual_memory()
    return DeviceFacts(
        kind="mps",
        name="Apple GPU",
        # the system lets a GPU have about three quarters of the memory that it shares with all else
        memory=int(memory.total * 0.75),
        free=int(min(memory.available, memory.total * 0.75)),
        cores=usable_cores(),
        bf16=True,
    )


def _cpu() -> DeviceFacts:
    import psutil

    memory = psutil.virtual_memory()
    limit = _container_limit()
    return DeviceFacts(
        kind="cpu",
        name=f"{usable_cores()} CPU cores",
        memory=min(int(memory.total), limit),
        free=min(int(memory.available), limit),
        cores=usable_cores(),
        bf16=_native_bf16(),
    )


def _native_bf16() -> bool:
    # asked of the system, because torch takes seconds to load and a plan should not
    if sys.platform != "linux":
        return apple_silicon()
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        return False
    return any(word in text for word in (" avx512_bf16", " amx_bf16", " bf16"))


def _container_limit() -> int:
    """The memory that a container may use, in bytes; very much when there is no limit."""
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text("ascii"))
    except (OSError, ValueError):
        return 2**62


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_precision(config: TrainConfig, facts: DeviceFacts) -> None:
    """Raise UsageError for a precision that this device cannot train in."""
    if config.precision == "fp16" and facts.kind == "mps":
        raise UsageError(
            "precision fp16 turns to NaN on Apple's GPU", remedy="write precision: fp32, or bf16"
        )
    if config.precision == "fp16" and facts.kind == "cpu":
        raise UsageError("precision fp16 is for GPUs", remedy="write precision: bf16, or fp32")
    if config.precision == "fp8" and facts.kind == "mps":
        raise UsageError("precision fp8 is not known to Apple's GPU", remedy="write precision: bf16")


def stated_pace(facts: DeviceFacts, precision: Precision, *, captured: bool) -> Pace | None:
    """The pace that follows from the maker's figure, or None where there is none; wide bars, no work."""
    if facts.peak_flops is None:
        return None
    # fp32 products run as TF32 on the same units at about half the rate
    peak = facts.peak_flops * (0.5 if precision == "fp32" else 1.0)
    return Pace(
        flops=0.45 * peak,
        # among these cards 70 to 200 FLOP for each byte of memory traffic
        bandwidth=facts.peak_flops / 120,
        launch=2e-6 if captured else 8e-6,
        low=0.6,
        high=2.0,
        source=f"{facts.name}: {facts.peak_flops / 1e12:g} TFLOP/s stated, 45 % of it expected",
    )


def measured_pace(facts: DeviceFacts, precision: Precision, *, seconds: float = 0.3) -> Pace:
    """Measure products of the sizes that a UNet has, for about `seconds`; loads torch."""
    import torch

    dtype = {"fp32": torch.float32, "fp16": torch.float16}.get(precision, torch.bfloat16)
    left = torch.ones(1024, 1280, device=facts.kind, dtype=dtype)
    right = torch.ones(1280, 1280, device=facts.kind, dtype=dtype)
    flop = 2.0 * 1024 * 1280 * 1280
    best, until = 0.0, time.perf_counter() + seconds
    rounds = 1
    while True:
        settle(facts.kind)
        begun = time.perf_counter()
        for _ in range(rounds):
            torch.mm(left, right)
        settle(facts.kind)
        now = time.perf_counter()
        best = max(best, rounds * flop / (now - begun))
        if now >= until:
            break
        # on a fast device a round must be long against the clock
        rounds = min(rounds * 2, 64) if now - begun < 0.02 else rounds
    # measured on two x86 cores: a whole step of SD 1.5 reaches this share of a product alone
    share = 0.75 if facts.kind == "cpu" and precision == "fp32" else 0.45
    return Pace(
        flops=share * best,
        bandwidth=_copies(facts.kind),
        launch=8e-6,
        low=0.5,
        high=2.0,
        source=f"measured {best / 1e9:.0f} GFLOP/s in products of {precision}, {share:.0%} of it expected",
    )


def _copies(kind: Kind) -> float:
    """Bytes per second that a copy reads and writes; the best of three."""
    import torch

    source = torch.ones(16 << 20, device=kind)
    target = torch.empty_like(source)
    times = []
    for _ in range(4):
        settle(kind)
        begun = time.perf_counter()
        target.copy_(source)
        settle(kind)
        times.append(time.perf_counter() - begun)
    return 2 * 4 * source.numel() / min(times[1:])


def settle(kind: Kind) -> None:
    """Wait until the device has done what it was asked."""
    import torch

    if kind == "cuda":
        torch.cuda.synchronize()
    elif kind == "mps":
        torch.mps.synchronize()


def prepare_environment(keys: Mapping[str, Any]) -> dict[str, str]:
    """Set what libraries read when they start, for a config of these keys; returns what was set.

    Call it before torch is loaded. What the user set in the environment stays. On an Apple GPU quiet mode is
    the default, and operations that the GPU lacks run on the processor.
    """
    apple = apple_silicon() and keys.get("device", "auto") in ("auto", "mps")
    quiet = keys.get("quiet")
    wanted = {"PYTORCH_ENABLE_MPS_FALLBACK": "1"} if apple else {}
    if quiet or (quiet is None and apple):
        wanted["OMP_NUM_THREADS"] = str(QUIET_THREADS)
        wanted |= _QUIET_WATERMARKS if apple else {}
    made = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(made)
    return made
