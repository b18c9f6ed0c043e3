"""The share of a GPU's arithmetic that updates use."""

import pytest
import torch

from plugrad.trainer.record.utilisation import Utilisation, peak_bf16_tflops, utilisation_of


def test_a_billion_parameters_and_a_thousand_tokens_a_second_are_six_teraflops():
    used = Utilisation(peak_tflops=12.0, num_devices=2, num_parameters=10**9)
    found = used.of_step(num_read=4000, num_sampled=1000, seconds=5.0, rollouts_s=1.0)
    # 6 * 1e9 * 4000 in 4 seconds are 6e12 a second, of 2 * 12e12.
    assert found == {"mfu": pytest.approx(0.25), "tokens_per_s_per_device": 100.0}


def test_a_cpu_has_no_known_peak():
    assert utilisation_of(torch.device("cpu"), 1, 10) is None


@pytest.mark.parametrize(
    ("name", "peak"), [("NVIDIA H100 PCIe", 756.0), ("NVIDIA H100 80GB HBM3", 989.0), ("GTX 970", None)]
)
def test_a_gpu_is_known_by_its_name(name, peak, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_bf16_tflops(torch.device("cuda")) == peak
