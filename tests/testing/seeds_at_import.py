"""A loss whose module does what no module should."""

import torch

from plugrad import LossInputs, LossOutputs

torch.manual_seed(7)
print("ready")


def seeded(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(-inputs.trainer_logprobs * inputs.advantages)
