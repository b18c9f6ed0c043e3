"""Losses as SkyRL's documentation has them: their imports are changed, and nothing else."""

from collections import defaultdict

import torch

from plugrad_compat.skyrl import (
    AlgorithmConfig,
    PolicyLoss,
    PolicyLossRegistry,
    apply_off_policy_correction,
    masked_mean,
    masked_whiten,
    reduce_loss,
    register_advantage_estimator,
    register_policy_loss,
    safe_exp_delta,
)


class MyCustomPolicyLoss(PolicyLoss):
    def __init__(self, config):
        super().__init__(config)
        self.my_param = config.get("my_param", 1.0)

    def compute_loss(self, log_probs, old_log_probs, advantages, masks, **kwargs):
        ratio = torch.exp(log_probs - old_log_probs)
        clipped_ratio = torch.clamp(ratio, 0.8, 1.2)
        loss = torch.max(-advantages * ratio, -advantages * clipped_ratio)
        return (loss * masks).sum() / masks.sum()


class EntropyRegularizedLoss(PolicyLoss):
    def __init__(self, config):
        super().__init__(config)
        self.entropy_coef = config.get("entropy_coef", 0.01)

    def compute_loss(self, log_probs, old_log_probs, advantages, masks, **kwargs):
        ratio = torch.exp(log_probs - old_log_probs)
        pg_loss = -(advantages * ratio * masks).sum() / masks.sum()
        entropy = -(log_probs.exp() * log_probs * masks).sum() / masks.sum()
        return pg_loss - self.entropy_coef * entropy


register_policy_loss("my_custom_loss", MyCustomPolicyLoss)


@register_policy_loss("reinforce")
def compute_reinforce_policy_loss(log_probs, old_log_probs, advantages, config, loss_mask=None, rollout_logprobs=None):
    loss = (-log_probs * advantages).mean()
    return loss, 0.0


@register_policy_loss("clipped")
def clipped_policy_loss(log_probs, old_log_probs, advantages, config, loss_mask=None, rollout_logprobs=None):
    ratio = (log_probs - old_log_probs).exp()
    surr1 = ratio * advantages
    surr2 = ratio.clamp(1 - config.eps_clip_low, 1 + config.eps_clip_high) * advantages
    clip_ratio = masked_mean((-surr2 > -surr1).float(), loss_mask).detach().item()
    loss = reduce_loss(-torch.min(surr1, surr2), loss_mask, config.loss_reduction, config.max_seq_len)
    return loss, {"clip_ratio": clip_ratio}


@register_policy_loss("summed")
def summed_policy_loss(log_probs, old_log_probs, advantages, config, loss_mask=None, rollout_logprobs=None):
    """As later versions have it: advantages come divided, and the loss is a sum."""
    ratio = (log_probs - old_log_probs).exp()
    correction = (old_log_probs - rollout_logprobs).exp().clamp(max=config.tis_imp_ratio_cap).detach()
    return (-ratio * advantages * correction * loss_mask).sum(), {}


@register_policy_loss("mixing")
def mixing_policy_loss(log_probs, old_log_probs, advantages, config, loss_mask=None, rollout_logprobs=None):
    """Whitens its advantages over whatever it is given."""
    centred = advantages - masked_mean(advantages, loss_mask)
    ratio = (log_probs - old_log_probs).exp()
    return masked_mean(-ratio * centred, loss_mask), {}


def later_policy_loss(log_probs, old_log_probs, advantages, config: AlgorithmConfig, loss_mask=None, rollout_logprobs=None):
    """As its later versions are written: the host has divided the advantages, and `reduce_loss` sums."""
    assert config.policy_loss_type in ["regular", "dual_clip"]
    ratio = safe_exp_delta(log_probs - old_log_probs, clip=20.0, out_dtype=log_probs.dtype)
    surr2 = ratio.clamp(1 - config.eps_clip_low, 1 + config.eps_clip_high) * advantages
    loss = -torch.min(ratio * advantages, surr2)
    loss, loss_mask, metrics = apply_off_policy_correction(
        loss, old_log_probs, rollout_logprobs, loss_mask, config.off_policy_correction
    )
    active = ratio[loss_mask.bool()]
    metrics.update(
        {"ratio_max": active.max().item(), "ratio_min": active.min().item(), "tokens_sum": loss_mask.sum().item()}
    )
    return reduce_loss(loss, loss_mask), metrics


PolicyLossRegistry.register("later", later_policy_loss)


@register_advantage_estimator("simple_baseline")
def compute_simple_baseline_advantage(token_level_rewards, response_mask, index, **kwargs):
    with torch.no_grad():
        response_rewards = (token_level_rewards * response_mask).sum(dim=-1, keepdim=True)
        baseline = response_rewards.mean()
        advantages = (response_rewards - baseline) * response_mask
    return advantages, advantages.clone()


@register_advantage_estimator("discounted")
def compute_discounted_advantage(token_level_rewards, response_mask, gamma, **kwargs):
    with torch.no_grad():
        returns, running = torch.zeros_like(token_level_rewards), 0
        for t in reversed(range(token_level_rewards.shape[1])):
            running = token_level_rewards[:, t] + gamma * running
            returns[:, t] = running
            running = running * response_mask[:, t]
        advantages = masked_whiten(returns, response_mask) * response_mask
    return advantages, returns


@register_advantage_estimator("leave_one_out")
def compute_leave_one_out_advantage(token_level_rewards, response_mask, index, **kwargs):
    scores, id2score = token_level_rewards.sum(dim=-1), defaultdict(list)
    with torch.no_grad():
        for i in range(scores.shape[0]):
            id2score[index[i]].append(scores[i])
        id2mean = {idx: torch.mean(torch.stack(found)) for idx, found in id2score.items()}
        for i in range(scores.shape[0]):
            num = len(id2score[index[i]])
            scores[i] = (scores[i] - id2mean[index[i]]) * num / (num - 1) if num > 1 else 0.0
        scores = scores.unsqueeze(-1) * response_mask
    return scores, scores
