"""How much of a GPU's arithmetic a run uses, on the GPUs whose peak is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

PEAK_BF16_TFLOPS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10": 125.0,
    "4090": 165.0,
}
"""Dense, as the maker's data sheets have it; the first name that occurs in the device's counts."""
FLOPS_PER_TOKEN_AND_PARAMETER = 6
"""Forward and backward pass; attention's products of positions come on top and are left out (arXiv:2204.02311, app. B)."""


def peak_bf16_tflops(device: torch.device) -> float | None:
    """Return what the device can do at most, or None where the table does not have it."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in PEAK_BF16_TFLOPS.items() if known in name), None)


@dataclass(frozen=True)
class Utilisation:
    """The devices of a run, which are all alike."""

    peak_tflops: float
    num_devices: int
    num_parameters: int

    def of_step(self, num_read: float, num_sampled: float, seconds: float, rollouts_s: float) -> dict[str, float]:
        """Return `mfu`, the share of the peak that the updates used, and `tokens_per_s_per_device`.

        Args:
            num_read: tokens that the updates read on all devices, prompts included.
            num_sampled: tokens that were sampled on all devices.
            seconds: the step's.
            rollouts_s: the part of them in which the step waited for rollouts, which no update uses.
        """
        flops = FLOPS_PER_TOKEN_AND_PARAMETER * self.num_parameters * num_read
        available = self.peak_tflops * 1e12 * self.num_devices * (seconds - rollouts_s)
        return {"mfu": flops / available, "tokens_per_s_per_device": num_sampled / seconds / self.num_devices}


def num_that_count(policy: nn.Module) -> int:
    """Return how many parameters a pass with gradient costs as much as: a frozen one has no gradient of its own."""
    return round(sum(weight.numel() * (1 if weight.requires_grad else 2 / 3) for weight in policy.parameters()))


def utilisation_of(device: torch.device, num_devices: int, num_parameters: int) -> Utilisation | None:
    """Return the utilisation of such devices, or None where their peak is not known."""
    peak = peak_bf16_tflops(device)
    return None if peak is None else Utilisation(peak, num_devices, num_parameters)
