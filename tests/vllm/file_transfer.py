"""A backend of vLLM's weight transfer that moves tensors through a file: on any machine, what NCCL and IPC do on a GPU.

A server loads it as a vLLM plugin, and the trainer's side registers it by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from safetensors.torch import load_file, save_file
from vllm.distributed.weight_transfer import WeightTransferEngineFactory, WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.base import (
    TrainerInitInfo,
    TrainerWeightTransferEngine,
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

BACKEND = "plugrad_file"


@dataclass
class InitInfo(WeightTransferInitInfo):
    pass


@dataclass
class UpdateInfo(WeightTransferUpdateInfo):
    path: str


@dataclass
class FileTrainerInitInfo(TrainerInitInfo):
    backend: ClassVar[str] = BACKEND
    path: str


class FileReceiver(WeightTransferEngine):
    """The server's side."""

    init_info_cls, update_info_cls = InitInfo, UpdateInfo

    def init_transfer_engine(self, init_info):
        pass

    def start_weight_update(self):
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info):
        # The base class waits for an accelerator, and there may be none.
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info):
        self.model.load_weights(load_file(update_info.path).items())

    def finish_weight_update(self):
        finalize_layerwise_reload(self.model, self.model_config)

    def shutdown(self):
        pass


class FileSender(TrainerWeightTransferEngine):
    """The trainer's side."""

    init_info_cls = FileTrainerInitInfo

    @classmethod
    def trainer_init(cls, init_info, *, client, source=None):
        sender = cls(client=client, source=source, is_sender=init_info.is_sender)
        sender.path = init_info.path
        client.init_weight_transfer_engine({})
        return sender

    def send_weights(self):
        declared = [(meta.name, meta.dtype, meta.shape) for meta in self.source.metadata()]
        weights = {name: weight.detach().clone().contiguous() for name, weight in self.source}
        assert declared == [(name, weight.dtype, tuple(weight.shape)) for name, weight in weights.items()]
        self.client.start_weight_update()
        save_file(weights, self.path)
        self.client.update_weights({"path": self.path})
        self.client.finish_weight_update()


def register():
    """Register the server's side. vLLM calls this in each of a server's processes."""
    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, FileReceiver)


def register_sender():
    """Register the trainer's side. A test calls this."""
    if BACKEND not in WeightTransferTrainerFactory._registry:
        WeightTransferTrainerFactory.register_engine(BACKEND, FileSender)
