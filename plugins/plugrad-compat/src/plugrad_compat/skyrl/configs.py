"""The config of SkyRL's losses and estimators, and its own defaults."""

from __future__ import annotations

from plugrad_compat.adapters.config import Config

DEFAULTS = {
    "advantage_estimator": "grpo",
    "policy_loss_type": "regular",
    "loss_reduction": "token_mean",
    "grpo_norm_by_std": True,
    "gamma": 1.0,
    "lambd": 1.0,
    "eps_clip_low": 0.2,
    "eps_clip_high": 0.2,
    "clip_ratio_c": 3.0,
    # No denominator here. In SkyRL, `seq_mean_token_sum_norm` divides by this length.
    "max_seq_len": 1,
    "use_tis": False,
    "tis_imp_ratio_cap": -1.0,
    "off_policy_correction": {"tis_ratio_type": None, "sequence_mask_metric": None},
    "cispo": {"cispo_eps_clip_low": 1.0, "cispo_eps_clip_high": 4.0, "cispo_anchor": "old"},
    "clip_cov": {"clip_ratio": 0.0002, "clip_cov_lb": 1.0, "clip_cov_ub": 5.0},
    "kl_cov": {"kl_cov_frac": 0.2, "ppo_kl_coef": 1.0},
    "sapo": {"tau_pos": 1.0, "tau_neg": 1.05},
    "dppo": {"dppo_type": "binary_tv", "delta_low": 0.2, "delta_high": 0.2},
    "use_kl_loss": True,
    "kl_loss_coef": 0.001,
    "kl_estimator_type": "k3",
    "use_entropy_loss": False,
    "entropy_loss_coef": 0.01,
}
"""Defaults of SkyRL's `trainer.algorithm` (`AlgorithmConfig` in `skyrl/train/config/config.py`), below `config`."""


class AlgorithmConfig(Config):
    """The run file's values over SkyRL's defaults."""
