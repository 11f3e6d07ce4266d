"""What the machine computes in, and how fast at most."""

from __future__ import annotations

import os


def has_gpu() -> bool:
    """Whether torch can compute on a GPU here."""
    import torch

    return bool(torch.cuda.is_available())


def native_bf16() -> bool:
    """Whether the hardware has bf16 instructions: GPUs of the Ampere generation and later, CPUs with AVX512-BF16 or AMX.

    Without them bf16 is slower than fp32: on two AVX2 cores and 135M parameters 6.7 times in a forward pass (60 against 403 tokens/s)
    and 2.3 times in decoding 16 sequences (45 against 102 tokens/s). `TAILMARK_CPU_BF16=0` in the environment says no for a CPU.
    """
    import torch

    if torch.cuda.is_available():
        # torch also says yes where it emulates bf16 (Turing, Volta), which is slower than fp32.
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if os.environ.get("TAILMARK_CPU_BF16") == "0":
        return False
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe() for probe in probes if probe is not None)


PEAK_TFLOPS = {
    "A10": 125.0,
    "A100": 312.0,
    "A10G": 70.0,
    "A800": 312.0,
    "B200": 2250.0,
    "GH200": 989.4,
    "H100": 989.4,
    "H100 NVL": 835.0,
    "H100 PCIe": 756.0,
    "H200": 989.4,
    "H800": 989.4,
    "L4": 121.0,
    "L40S": 362.0,
    "RTX 3090": 71.0,
    "RTX 4090": 165.2,
}
"""Dense bf16 products in 1e12 operations a second, from the makers' data sheets, by a part of the device's name."""


def peak_flops(device: str) -> float | None:
    """The most bf16 operations a second that a GPU of this name can do, or None where it is not known.

    Args:
        device: as torch names it, such as `NVIDIA H100 80GB HBM3`.
    """
    words = f" {device} ".replace("-", " ")
    known = [name for name in PEAK_TFLOPS if all(f" {word} " in words for word in name.split())]
    return PEAK_TFLOPS[max(known, key=len)] * 1e12 if known else None
