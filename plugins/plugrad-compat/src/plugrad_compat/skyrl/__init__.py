"""SkyRL: what its losses and estimators import. `from skyrl... import X` becomes `from plugrad_compat.skyrl import X`.

Both loss styles run: the documented class, and the function.

    class MyLoss(PolicyLoss):
        def __init__(self, config): ...
        def compute_loss(self, log_probs, old_log_probs, advantages, masks, **kwargs): ...   # a scalar

    @register_policy_loss("my_loss")
    def my_loss(log_probs, old_log_probs, advantages, config=, loss_mask=, rollout_logprobs=): ...   # a scalar, metrics

    @register_advantage_estimator("my_estimator")
    def my_estimator(token_level_rewards, response_mask, index, **kwargs): ...   # advantages, returns: [batch, response]
"""

from plugrad_compat.adapters.masked import masked_var, masked_whiten
from plugrad_compat.skyrl.configs import AlgorithmConfig
from plugrad_compat.skyrl.functions import (
    apply_off_policy_correction,
    compute_approx_kl,
    masked_mean,
    reduce_loss,
    safe_exp_delta,
)
from plugrad_compat.skyrl.registering import (
    AdvantageEstimatorRegistry,
    PolicyLoss,
    PolicyLossRegistry,
    register_advantage_estimator,
    register_policy_loss,
)

__all__ = [
    "AdvantageEstimatorRegistry",
    "AlgorithmConfig",
    "PolicyLoss",
    "PolicyLossRegistry",
    "apply_off_policy_correction",
    "compute_approx_kl",
    "masked_mean",
    "masked_var",
    "masked_whiten",
    "reduce_loss",
    "register_advantage_estimator",
    "register_policy_loss",
    "safe_exp_delta",
]
