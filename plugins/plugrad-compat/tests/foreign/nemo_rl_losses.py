"""Losses as NeMo RL's documentation has them: their imports are changed, and nothing else."""

import torch

from plugrad_compat.nemo_rl import LossFunction, LossType, calculate_kl, masked_mean


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
