"""What an Accelerate configuration may not ask for: each is refused with its reason and what to do instead."""

import logging
import os

import pytest
import torch

from plugrad.errors import RunFileError
from plugrad.trainer.ranks.accelerate_config import check_accelerate_config

REFUSED = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4": "divide the objective by it.*tokens_per_micro_batch",
    "ACCELERATE_USE_DEEPSPEED=true": "updates the policy at every backward pass.*FSDP2",
    "ACCELERATE_USE_MEGATRON_LM=true": "a training loop of its own",
    "ACCELERATE_USE_FSDP=true": "FSDP_VERSION is 1.*deprecated.*fsdp_version: 2",
    "ACCELERATE_USE_FSDP=true FSDP_VERSION=1": "FSDP_VERSION is 1.*deprecated",
    "ACCELERATE_USE_FSDP=true FSDP_VERSION=2 FSDP_OFFLOAD_PARAMS=true": "would be on the CPU.*fsdp_offload_params: false",
    "ACCELERATE_USE_FSDP=1 FSDP_VERSION=2 FSDP_ACTIVATION_CHECKPOINTING=true": "know layers by their names.*"
    "model.gradient_checkpointing = true",
    "PARALLELISM_CONFIG_TP_SIZE=2": "tensor parallelism is not tested",
    "PARALLELISM_CONFIG_CP_SIZE=2": "context parallelism is not tested.*count its tokens twice",
    "PARALLELISM_CONFIG_SP_SIZE=4": "sequence parallelism is not tested",
    "ACCELERATE_MIXED_PRECISION=fp16": "loss scaling.*Choose bf16 or no",
    "ACCELERATE_MIXED_PRECISION=fp8": "loss scaling",
}
TAKEN = [
    "",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS=1",
    "ACCELERATE_USE_DEEPSPEED=false",
    "ACCELERATE_MIXED_PRECISION=bf16",
    "ACCELERATE_MIXED_PRECISION=no FSDP_VERSION=1",
    "FSDP_OFFLOAD_PARAMS=true FSDP_ACTIVATION_CHECKPOINTING=true",
    "PARALLELISM_CONFIG_TP_SIZE=1 PARALLELISM_CONFIG_DP_SHARD_SIZE=8",
]


@pytest.fixture
def set_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_")):
            monkeypatch.delenv(name)

    def set_it(settings):
        for setting in settings.split():
            monkeypatch.setenv(*setting.split("="))

    return set_it


@pytest.mark.parametrize("settings", REFUSED)
def test_what_is_refused(set_environment, settings):
    set_environment(settings)
    with pytest.raises(RunFileError, match=REFUSED[settings]):
        check_accelerate_config()


@pytest.mark.parametrize("settings", TAKEN)
def test_what_is_taken(set_environment, settings):
    set_environment(settings)
    check_accelerate_config()


FSDP2 = "ACCELERATE_USE_FSDP=true FSDP_VERSION=2 FSDP_CPU_RAM_EFFICIENT_LOADING=true"


def test_sharding_where_accelerate_would_not_shard_is_refused(set_environment, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    set_environment(FSDP2)
    with pytest.raises(RunFileError, match=r"no accelerator.*plugrad train --num-processes"):
        check_accelerate_config()


def test_every_rank_loads_whole_weights(set_environment, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    set_environment(FSDP2)
    check_accelerate_config()
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"


def test_a_launcher_that_started_one_process_is_noticed(set_environment, monkeypatch, caplog):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    set_environment("ACCELERATE_USE_CPU=True")
    with caplog.at_level(logging.INFO, logger="plugrad"):
        check_accelerate_config()
    assert "has started one process" in caplog.text
