"""Losses with parameters of their own: correct ones, and those that each break a promise of such losses."""

import torch
from torch.func import functional_call

from plugrad import BatchLossInputs, LossInputs, LossOutputs, Mean, ModelSizes, loss

BROKEN = {}
"""By name: the check made for it, and all that find it."""


def breaks(check, *also, **facts):
    def note(target):
        BROKEN[target.__name__] = (check, {check, *also})
        return loss(**{"policy_gradient": False, **facts})(target)

    return note


class WithASigma:
    def trained(self, sizes: ModelSizes) -> torch.nn.Module:
        return torch.nn.ParameterDict({"s": torch.zeros(1, dtype=sizes.dtype)})


@loss(needs={"entropy"}, policy_gradient=False)
class Uncertainty(WithASigma):
    def __call__(self, inputs: LossInputs) -> LossOutputs:
        s = inputs.parameters["s"]
        per_token = (-s).exp() * (inputs.entropy - inputs.trainer_logprobs) + s
        return LossOutputs(per_token * inputs.loss_mask, {"s": s.detach()})


@loss(needs={"embedding"}, policy_gradient=False, sums_tokens=False)
class Probe:
    """Starts at zero, so that its first layer has no gradient at first."""

    def __init__(self, width: int = 3) -> None:
        self._width = width

    def trained(self, sizes: ModelSizes) -> torch.nn.Module:
        kinds = {"dtype": sizes.dtype}
        last = torch.nn.Linear(self._width, 1, **kinds)
        torch.nn.init.zeros_(last.weight)
        self.module = torch.nn.Sequential(torch.nn.Linear(sizes.hidden_size, self._width, **kinds), torch.nn.Tanh(), last)
        return self.module

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        found = functional_call(self.module, inputs.parameters, (inputs.embedding,)).squeeze(-1)
        surprise = (inputs.trainer_logprobs * inputs.loss_mask).sum(dim=1)
        return LossOutputs((found - surprise).square(), {"guess": Mean.of(found)})


@loss(needs={"embedding"}, policy_gradient=False, sums_tokens=False, whole_batch=True)
class Contrast:
    def trained(self, sizes: ModelSizes) -> torch.nn.Module:
        return torch.nn.ParameterDict({"scale": torch.zeros(1, dtype=sizes.dtype)})

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        rows = torch.nn.functional.normalize(inputs.embedding, dim=1, eps=1e-6)
        others = ~torch.eye(len(rows), dtype=torch.bool)
        scores = rows @ rows.T * inputs.parameters["scale"].exp()
        log_shares = scores.masked_fill(~others, -1e9).log_softmax(dim=1)
        positive = (inputs.group_ids[:, None] == inputs.group_ids) & others
        return LossOutputs(-(log_shares * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1))


@breaks("parameters", needs={"entropy"})
class LeavesOneOut:
    """A parameter that never gets a gradient."""

    def trained(self, sizes: ModelSizes) -> torch.nn.Module:
        return torch.nn.ParameterDict({name: torch.zeros(1, dtype=sizes.dtype) for name in ("used", "unused")})

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        s = inputs.parameters["used"]
        return LossOutputs((-s).exp() * (inputs.entropy - inputs.trainer_logprobs) + s)


@breaks("parameters_over_cuts")
class RegularisesEachMicroBatch(WithASigma):
    """Its term of the parameter has no value, and a gradient that the cut decides."""

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        s = inputs.parameters["s"]
        return LossOutputs(-inputs.trainer_logprobs * s.exp() + (s - s.detach()) / inputs.loss_mask.sum())


@breaks("runs")
class CallsTheModuleItself:
    def trained(self, sizes: ModelSizes) -> torch.nn.Module:
        self.module = torch.nn.Linear(1, 1, dtype=sizes.dtype)
        return self.module

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        return LossOutputs(-self.module(inputs.trainer_logprobs.unsqueeze(-1).to(self.module.weight.dtype)).squeeze(-1))


@breaks("runs")
class ReadsWhatItDidNotMake:
    def __call__(self, inputs: LossInputs) -> LossOutputs:
        return LossOutputs(-inputs.trainer_logprobs * inputs.parameters["s"])


CORRECT = (Uncertainty, Probe, Contrast)
