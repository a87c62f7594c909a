"""Which precision a machine computes natively: emulated bfloat16 is nine times slower than float32."""

from __future__ import annotations

from pathlib import Path

import torch

CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86, x86 and Arm, as /proc/cpuinfo names them
FIRST_CUDA_CAPABILITY = (8, 0)  # Ampere


def native_bfloat16(device: str | torch.device) -> bool:
    """Return whether ``device`` multiplies bfloat16 matrices in hardware."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= FIRST_CUDA_CAPABILITY
    return device.type != "cpu" or bool(CPU_FLAGS & _cpu_flags())


def full_precision(device: str | torch.device) -> torch.autocast:
    """Return a context without AMP: distances, boxes, scores and losses in bfloat16 would tie."""
    return torch.autocast(torch.device(device).type, enabled=False)


def _cpu_flags() -> set[str]:
    """Return what /proc/cpuinfo says of the processor, and what torch says where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return _flags_of_torch()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.partition(":")[2].split()}


def _flags_of_torch() -> set[str]:
    checks = {"avx512_bf16": "_is_avx512_bf16_supported", "amx_bf16": "_is_amx_tile_supported"}
    return {flag for flag, name in checks.items() if getattr(torch.cpu, name, lambda: False)()}
