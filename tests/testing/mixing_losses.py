"""Losses that see the whole batch: correct ones, and those that each break a promise of such losses."""

import os

import torch

from plugrad import BatchLossInputs, LossOutputs, Mean, loss

BROKEN = {}
"""By name: the check made for it, and all that find it."""


def breaks(check, *also, **facts):
    """Note which checks a loss must fail, and mark it."""

    def note(target):
        BROKEN[target.__name__] = (check, {check, *also})
        return loss(whole_batch=True, **facts)(target)

    return note


def share_of_the_positives(inputs):
    """Return the mean log-probability of a row's positives among all other rows, and which rows are positives."""
    rows = torch.nn.functional.normalize(inputs.embedding, dim=1)
    others = ~torch.eye(len(rows), dtype=torch.bool)
    log_shares = (rows @ rows.T / 0.5).masked_fill(~others, -1e9).log_softmax(dim=1)
    return log_shares, (inputs.group_ids[:, None] == inputs.group_ids) & others


@loss(needs={"embedding"}, whole_batch=True, sums_tokens=False)
def contrastive(inputs: BatchLossInputs) -> LossOutputs:
    log_shares, positive = share_of_the_positives(inputs)
    found = (log_shares * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
    return LossOutputs(-found, {"positives": Mean.of(positive.sum(dim=1).double())})


@loss(whole_batch=True)
def centres_the_advantages(inputs: BatchLossInputs) -> LossOutputs:
    counted = inputs.loss_mask
    mean = (inputs.advantages * counted).sum() / counted.sum()
    return LossOutputs(-(inputs.advantages - mean) * inputs.trainer_logprobs)


@loss(whole_batch=True)
def drops_half_at_random(inputs: BatchLossInputs) -> LossOutputs:
    # One number per counted token: padding changes none of them.
    kept = torch.zeros_like(inputs.loss_mask)
    kept[inputs.loss_mask] = torch.rand(int(inputs.loss_mask.sum())) < 0.5
    return LossOutputs(-inputs.advantages * inputs.trainer_logprobs * kept)


CORRECT = [contrastive, centres_the_advantages, drops_half_at_random]


@breaks("row_order")
def compares_with_the_row_above(inputs: BatchLossInputs) -> LossOutputs:
    advantages = (inputs.advantages * inputs.loss_mask).sum(dim=1)
    better = (advantages - advantages.roll(1)).unsqueeze(1)
    return LossOutputs(-better * inputs.trainer_logprobs)


@breaks("nothing_to_compare", "gradcheck", needs={"embedding"}, sums_tokens=False)
def divides_by_the_number_of_positives(inputs: BatchLossInputs) -> LossOutputs:
    log_shares, positive = share_of_the_positives(inputs)
    return LossOutputs(-(log_shares * positive).sum(dim=1) / positive.sum(dim=1))


@breaks("nothing_to_compare")
def compares_with_the_mean_of_the_others(inputs: BatchLossInputs) -> LossOutputs:
    rows = (inputs.trainer_logprobs * inputs.loss_mask).sum(dim=1)
    others = (rows.sum() - rows).detach() / torch.tensor(len(rows) - 1, dtype=rows.dtype)
    return LossOutputs(-(inputs.advantages + 0.01 * others.unsqueeze(1)) * inputs.trainer_logprobs)


@breaks("one_rank_equals_two")
def divides_by_the_number_of_processes_too(inputs: BatchLossInputs) -> LossOutputs:
    centred = centres_the_advantages(inputs)
    return LossOutputs(centred.loss / int(os.environ.get("WORLD_SIZE", "1")))
