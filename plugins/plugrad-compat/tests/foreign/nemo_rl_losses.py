"""Losses as NeMo RL's documentation has them: their imports are changed, and nothing else."""

import torch

from plugrad_compat.nemo_rl import LossFunction, LossInputType, LossType, MetricNormalizer, calculate_kl, masked_mean


def next_token_logprobs(next_token_logits, data):
    logprobs = torch.nn.functional.log_softmax(next_token_logits[:, :-1], dim=-1)
    return logprobs.gather(dim=-1, index=data["input_ids"][:, 1:].unsqueeze(-1)).squeeze(-1)


class NLLLoss(LossFunction):
    loss_type = LossType.TOKEN_LEVEL

    def __call__(self, next_token_logits, data, global_valid_seqs, global_valid_toks):
        mask = data["token_mask"][:, 1:] * data["sample_mask"].unsqueeze(-1)
        loss = -masked_mean(
            next_token_logprobs(next_token_logits, data), mask, global_normalization_factor=global_valid_toks
        )
        return loss, {"loss": loss.item(), "num_valid_samples": data["sample_mask"].sum().item()}


class ClippedPGLossFn(LossFunction):
    def __init__(self, cfg):
        self.ratio_clip_min = cfg["ratio_clip_min"]
        self.ratio_clip_max = cfg["ratio_clip_max"]
        self.reference_policy_kl_penalty = cfg.get("reference_policy_kl_penalty", 0)
        self.loss_type = LossType.TOKEN_LEVEL if cfg["token_level_loss"] else LossType.SEQUENCE_LEVEL

    def __call__(self, next_token_logits, data, global_valid_seqs, global_valid_toks):
        token_mask, sample_mask = data["token_mask"][:, 1:], data["sample_mask"]
        advantages, prev_logprobs = data["advantages"][:, 1:], data["prev_logprobs"][:, 1:]
        mask = token_mask * sample_mask.unsqueeze(-1)
        curr_logprobs = next_token_logprobs(next_token_logits, data)
        ratios = (curr_logprobs - prev_logprobs).exp()
        ratios_clamped = ratios.clamp(1.0 - self.ratio_clip_min, 1.0 + self.ratio_clip_max)
        per_token = torch.max(-advantages * ratios, -advantages * ratios_clamped)
        if self.reference_policy_kl_penalty != 0:
            kl = calculate_kl(curr_logprobs, data["reference_policy_logprobs"][:, 1:])
            per_token = per_token + self.reference_policy_kl_penalty * kl
        if self.loss_type == LossType.TOKEN_LEVEL:
            loss = masked_mean(per_token, mask, global_normalization_factor=global_valid_toks)
        else:
            per_sequence = masked_mean(per_token, token_mask, dim=-1)
            loss = masked_mean(per_sequence, sample_mask, global_normalization_factor=global_valid_seqs)
        probs_ratio = masked_mean(ratios.detach(), mask, global_normalization_factor=global_valid_toks)
        return loss, {"probs_ratio": probs_ratio.item()}


class MeanSeeking(LossFunction):
    """Compares each token with the mean of whatever it is given: a loss of several sequences together."""

    loss_type = LossType.TOKEN_LEVEL

    def __call__(self, next_token_logits, data, global_valid_seqs, global_valid_toks):
        mask = data["token_mask"][:, 1:] * data["sample_mask"].unsqueeze(-1)
        logprobs = next_token_logprobs(next_token_logits, data)
        centred = (logprobs - masked_mean(logprobs, mask)).square()
        return masked_mean(centred, mask, global_normalization_factor=global_valid_toks), {}


class LaterMeanSeeking(LossFunction):
    """The same as its later versions are written: with log-probs."""

    input_type = LossInputType.LOGPROB
    loss_type = LossType.TOKEN_LEVEL

    def __call__(self, next_token_logprobs, data, global_valid_seqs, global_valid_toks):
        mask = data["token_mask"][:, 1:] * data["sample_mask"].unsqueeze(-1)
        centred = (next_token_logprobs - masked_mean(next_token_logprobs, mask)).square()
        return masked_mean(centred, mask, global_normalization_factor=global_valid_toks), {}


class LaterClippedPGLossFn(LossFunction):
    """As its later versions are written: with log-probs, and metrics of which it says what they are divided by."""

    input_type = LossInputType.LOGPROB
    loss_type = LossType.TOKEN_LEVEL
    metric_normalizations = {
        "per_sequence": MetricNormalizer.SEQUENCES,
        "probs_ratio_max": MetricNormalizer.NONE,
        "seen": MetricNormalizer.NONE,
    }

    def __init__(self, cfg):
        self.ratio_clip_min, self.ratio_clip_max = cfg.ratio_clip_min, cfg.ratio_clip_max

    def __call__(self, next_token_logprobs, data, global_valid_seqs, global_valid_toks):
        token_mask, sample_mask = data["token_mask"][:, 1:], data["sample_mask"]
        advantages, prev_logprobs = data["advantages"][:, 1:], data["prev_logprobs"][:, 1:]
        mask = token_mask * sample_mask.unsqueeze(-1)
        ratios = (next_token_logprobs - prev_logprobs).exp()
        ratios_clamped = ratios.clamp(1.0 - self.ratio_clip_min, 1.0 + self.ratio_clip_max)
        per_token = torch.max(-advantages * ratios, -advantages * ratios_clamped)
        loss = masked_mean(per_token, mask, global_normalization_factor=global_valid_toks)
        means = masked_mean(ratios.detach(), token_mask, dim=-1)
        return loss, {
            "probs_ratio": masked_mean(ratios.detach(), mask, global_normalization_factor=global_valid_toks).item(),
            "probs_ratio_max": ratios.detach()[mask.bool()].max().item(),
            "per_sequence": masked_mean(means, sample_mask, global_normalization_factor=global_valid_seqs).item(),
            "seen": sample_mask.sum().item(),
        }


class LaterEntropyLoss(LossFunction):
    """As its later versions are written, with logits."""

    input_type = LossInputType.LOGIT
    loss_type = LossType.TOKEN_LEVEL

    def __call__(self, data, global_valid_seqs, global_valid_toks, **kwargs):
        logprobs = torch.nn.functional.log_softmax(kwargs["logits"][:, :-1], dim=-1)
        mask = data["token_mask"][:, 1:] * data["sample_mask"].unsqueeze(-1)
        negative_entropy = (logprobs.exp() * logprobs).sum(dim=-1)
        return masked_mean(negative_entropy, mask, global_normalization_factor=global_valid_toks), {}


class PreferenceLoss(LossFunction):
    """Compares the chosen and the rejected completion of a pair, which stand beside each other."""

    loss_type = LossType.SEQUENCE_LEVEL
    input_type = LossInputType.LOGPROB

    def __call__(self, next_token_logprobs, data, global_valid_seqs, global_valid_toks):
        rewards = (next_token_logprobs * data["token_mask"][:, 1:]).sum(dim=-1)
        per_pair = -torch.nn.functional.logsigmoid(rewards[::2] - rewards[1::2]) * data["sample_mask"][::2]
        return masked_mean(per_pair, data["sample_mask"][::2], global_normalization_factor=global_valid_seqs / 2), {}


class DPOLossFn(LossFunction):
    """As its later versions are written: the reference's log-probs come rolled to the left, and rows are pairs."""

    loss_type = LossType.SEQUENCE_LEVEL
    input_type = LossInputType.LOGPROB

    def __init__(self, cfg):
        self.beta = cfg["reference_policy_kl_penalty"]
        self.weights = cfg["preference_loss_weight"], cfg["sft_loss_weight"]
        self.average = cfg["preference_average_log_probs"], cfg["sft_average_log_probs"]

    def __call__(self, next_token_logprobs, data, global_valid_seqs, global_valid_toks):
        mask, valid = data["token_mask"][:, 1:], data["sample_mask"]
        pairs = {"mask": valid[::2], "global_normalization_factor": global_valid_seqs / 2}
        diff = (next_token_logprobs - data["reference_policy_logprobs"][:, :-1]) * mask
        rewards = diff.sum(-1) / (mask.sum(-1).clamp(min=1) if self.average[0] else 1)
        chosen, rejected = rewards[::2], rewards[1::2]
        preference = masked_mean(-torch.nn.functional.logsigmoid(self.beta * (chosen - rejected)) * valid[::2], **pairs)
        nll = -(next_token_logprobs * mask).sum(-1) / (mask.sum(-1).clamp(min=1) if self.average[1] else 1)
        sft = masked_mean(nll[::2], **pairs) if self.weights[1] > 0 else torch.tensor(0.0)
        loss = self.weights[1] * sft + self.weights[0] * preference
        return loss, {
            "preference_loss": preference.item(),
            "accuracy": masked_mean(chosen > rejected, **pairs).item(),
            "num_valid_samples": (valid.sum() / 2).item(),
        }


class CustomSequenceLoss(LossFunction):
    """As the guide has it: of logits, a product of means over the batch that is divided by nothing else."""

    def __init__(self, config):
        self.alpha = config.get("alpha", 1.0)
        self.beta = config.get("beta", 0.1)
        self.loss_type = LossType.SEQUENCE_LEVEL

    def __call__(self, next_token_logits, data, global_valid_seqs, global_valid_toks):
        return self.total(torch.nn.functional.log_softmax(next_token_logits, dim=-1), data)

    def total(self, log_probs, data):
        rewards = data.get("rewards", torch.zeros(log_probs.size(0)))
        advantages = data.get("advantages", torch.zeros(log_probs.size(0)))
        policy_loss = -(log_probs.mean() * advantages.mean())
        value_loss = torch.nn.functional.mse_loss(rewards.mean(), advantages.mean())
        total = self.alpha * policy_loss + self.beta * value_loss
        return total, {"policy_loss": policy_loss.item(), "mean_reward": rewards.mean().item()}


class CustomSequenceLossOfLogProbs(CustomSequenceLoss):
    """As its error says: with the log-probs of the sampled tokens."""

    input_type = LossInputType.LOGPROB

    def __call__(self, next_token_logprobs, data, global_valid_seqs, global_valid_toks):
        return self.total(next_token_logprobs, data)
