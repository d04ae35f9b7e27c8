"""Accelerators that a plan can name: memory and dense bfloat16 throughput, as their makers publish them."""

from collections.abc import Mapping
from typing import Literal

from arra_med.config import StrictModel

GpuName = Literal["h100", "h200", "a100-80", "a100-40", "l40s", "rtx4090", "cpu"]


class Gpu(StrictModel):
    """One accelerator.

    Attributes:
        title: Its full name.
        memory_gib: What a program can use of it; None for a CPU, whose memory is the machine's.
        peak_tflops: Dense bfloat16 matrix products with float32 accumulation, 10^12 operations a second.
        source: Where the figures stand.
    """

    title: str
    memory_gib: float | None
    peak_tflops: float
    source: str


GPUS: Mapping[GpuName, Gpu] = {
    "h100": Gpu(
        title="NVIDIA H100 SXM", memory_gib=79.6, peak_tflops=989.4, source="NVIDIA H100 data sheet (half of sparse)"
    ),
    "h200": Gpu(
        title="NVIDIA H200 SXM", memory_gib=139.8, peak_tflops=989.4, source="NVIDIA H200 data sheet (half of sparse)"
    ),
    "a100-80": Gpu(title="NVIDIA A100 80 GB", memory_gib=79.2, peak_tflops=312.0, source="NVIDIA A100 data sheet"),
    "a100-40": Gpu(title="NVIDIA A100 40 GB", memory_gib=39.4, peak_tflops=312.0, source="NVIDIA A100 data sheet"),
    "l40s": Gpu(title="NVIDIA L40S", memory_gib=44.4, peak_tflops=362.0, source="NVIDIA L40S data sheet"),
    "rtx4090": Gpu(
        title="NVIDIA RTX 4090", memory_gib=23.5, peak_tflops=165.2, source="NVIDIA Ada architecture white paper"
    ),
    "cpu": Gpu(
        title="two CPU cores",
        memory_gib=None,
        peak_tflops=0.5,
        source="0.2 Tflop/s measured in training a 12M model with AVX-512, taken as 40%",
    ),
}
