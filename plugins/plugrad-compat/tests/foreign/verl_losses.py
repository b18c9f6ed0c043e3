"""Losses and advantage estimators as verl's documentation has them: their imports are changed, and nothing else."""

from collections import defaultdict

import torch

import plugrad_compat.verl as verl_F
from plugrad_compat.verl import ActorConfig, AlgoConfig, agg_loss, register_adv_est, register_policy_loss


@register_policy_loss("my_vanilla")
def compute_policy_loss_vanilla(
    old_log_prob, log_prob, advantages, response_mask, loss_agg_mode="token-mean", config=None, rollout_is_weights=None
):
    assert config is not None
    assert not isinstance(config, AlgoConfig)
    negative_approx_kl = torch.clamp(log_prob - old_log_prob, min=-20.0, max=20.0)
    ratio = torch.exp(negative_approx_kl)
    ppo_kl = verl_F.masked_mean(-negative_approx_kl, response_mask)
    pg_losses1 = -advantages * ratio
    pg_losses2 = -advantages * torch.clamp(ratio, 1 - config.clip_ratio_low, 1 + config.clip_ratio_high)
    clip_pg_losses1 = torch.maximum(pg_losses1, pg_losses2)
    clip_pg_losses2 = torch.min(-advantages * config.get("clip_ratio_c", 3.0), clip_pg_losses1)
    pg_losses = torch.where(advantages < 0, clip_pg_losses2, clip_pg_losses1)
    if rollout_is_weights is not None:
        pg_losses = pg_losses * rollout_is_weights
    pg_loss = agg_loss(loss_mat=pg_losses, loss_mask=response_mask, loss_agg_mode=loss_agg_mode, **config.global_batch_info)
    return pg_loss, {"actor/ppo_kl": ppo_kl.detach().item()}


@register_policy_loss("my_gspo")
def compute_policy_loss_gspo(
    old_log_prob,
    log_prob,
    advantages,
    response_mask,
    loss_agg_mode="seq-mean-token-mean",
    config=None,
    rollout_is_weights=None,
):
    assert isinstance(config, ActorConfig)
    negative_approx_kl = log_prob - old_log_prob
    lengths = torch.sum(response_mask, dim=-1).clamp(min=1)
    negative_approx_kl_seq = torch.sum(negative_approx_kl * response_mask, dim=-1) / lengths
    log_ratio = torch.clamp(log_prob - log_prob.detach() + negative_approx_kl_seq.detach().unsqueeze(-1), max=10.0)
    ratio = torch.exp(log_ratio)
    pg_losses = torch.maximum(
        -advantages * ratio, -advantages * torch.clamp(ratio, 1 - config.clip_ratio_low, 1 + config.clip_ratio_high)
    )
    pg_loss = agg_loss(
        loss_mat=pg_losses, loss_mask=response_mask, loss_agg_mode="seq-mean-token-mean", **config.global_batch_info
    )
    return pg_loss, {}


@register_policy_loss("my_clip_cov")
def compute_policy_loss_cov(
    old_log_prob, log_prob, advantages, response_mask, loss_agg_mode="token-mean", config=None, rollout_is_weights=None
):
    """Penalises what covaries, over whatever it is given: a loss of several sequences together."""
    centred = advantages - verl_F.masked_mean(advantages, response_mask)
    cov = centred * (log_prob.detach() - verl_F.masked_mean(log_prob.detach(), response_mask))
    pg_losses = -advantages * torch.exp(log_prob - old_log_prob) * (1 + cov)
    pg_loss = agg_loss(loss_mat=pg_losses, loss_mask=response_mask, loss_agg_mode=loss_agg_mode, **config.global_batch_info)
    return pg_loss, {}


@register_policy_loss("my_thresholded")
def compute_policy_loss_thresholded(
    old_log_prob, log_prob, advantages, response_mask, loss_agg_mode="token-mean", config=None, rollout_is_weights=None
):
    """Drops the tokens that covary more than a threshold: it mixes sequences only where some do."""
    centred = advantages - verl_F.masked_mean(advantages, response_mask)
    cov = centred * (log_prob.detach() - verl_F.masked_mean(log_prob.detach(), response_mask))
    pg_losses = -advantages * torch.exp(log_prob - old_log_prob) * (cov <= config.policy_loss.clip_cov_lb)
    pg_loss = agg_loss(loss_mat=pg_losses, loss_mask=response_mask, loss_agg_mode=loss_agg_mode, **config.global_batch_info)
    return pg_loss, {}


@register_adv_est("my_grpo")
def compute_grpo_outcome_advantage(
    token_level_rewards, response_mask, index, epsilon=1e-6, norm_adv_by_std_in_grpo=True, config=None
):
    assert config is None or isinstance(config, AlgoConfig)
    scores = token_level_rewards.sum(dim=-1)
    id2score, id2mean, id2std = defaultdict(list), {}, {}
    with torch.no_grad():
        for i in range(scores.shape[0]):
            id2score[index[i]].append(scores[i])
        for idx, found in id2score.items():
            stacked = torch.stack(found)
            several = len(found) > 1
            id2mean[idx] = torch.mean(stacked) if several else torch.tensor(0.0)
            id2std[idx] = torch.std(stacked) if several else torch.tensor(1.0)
        for i in range(scores.shape[0]):
            scores[i] = scores[i] - id2mean[index[i]]
            if norm_adv_by_std_in_grpo:
                scores[i] = scores[i] / (id2std[index[i]] + epsilon)
        scores = scores.unsqueeze(-1) * response_mask
    return scores, scores


@register_adv_est("my_remax")
def compute_remax_outcome_advantage(token_level_rewards, reward_baselines, response_mask, config=None, **kwargs):
    with torch.no_grad():
        returns = (token_level_rewards * response_mask).flip(dims=[-1]).cumsum(dim=-1).flip(dims=[-1])
        advantages = returns - reward_baselines.unsqueeze(-1) * response_mask
    return advantages, returns
