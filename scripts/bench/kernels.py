"""Where a training step spends its time on a GPU, by kernel and kind of kernel."""

import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity

KINDS = {  # of kernels, by parts of their names
    "matrix products": ("gemm", "nvjet", "cutlass", "xmma", "cublas", "splitk"),
    "attention": ("flash", "fmha"),
    "optimiser": ("multi_tensor", "adam"),
    "compiled pointwise and reductions": ("triton",),
    "copies": ("memcpy", "memset"),
}


def profile(steps: Any, path: Path) -> None:
    """Where a step's time goes on the device: by kind, and the 45 longest kernels."""
    next(steps)
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as trace:
        start = time.time()
        next(steps), next(steps)
        torch.cuda.synchronize()
        wall = (time.time() - start) / 2 * 1e3
    kernels = [k for k in trace.key_averages() if k.self_device_time_total > 0 and k.device_type.name == "CUDA"]
    sums: dict[str, float] = {}
    for kernel in kernels:
        kind = next((kind for kind, parts in KINDS.items() if any(p in kernel.key.lower() for p in parts)), "other")
        sums[kind] = sums.get(kind, 0.0) + kernel.self_device_time_total / 2e3
    lines = [f"a step: {wall:.1f} ms wall, {sum(sums.values()):.1f} ms of kernels (profiled)"]
    lines += [f"{ms:9.2f} ms  {kind}" for kind, ms in sorted(sums.items(), key=lambda item: -item[1])]
    for kernel in sorted(kernels, key=lambda k: -k.self_device_time_total)[:45]:
        lines.append(f"{kernel.self_device_time_total / 2e3:9.2f} ms {kernel.count // 2:6d}x  {kernel.key[:150]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    print("\n".join(lines[:22]), file=sys.stderr)
