"""SkyRL: what its losses import. `from skyrl_train... import X` becomes `from plugrad_compat.skyrl import X`.

Both of its styles run: the documented class, and the function.

    class MyLoss(PolicyLoss):
        def __init__(self, config): ...
        def compute_loss(self, log_probs, old_log_probs, advantages, masks, **kwargs): ...   # a scalar

    @register_policy_loss("my_loss")
    def my_loss(log_probs, old_log_probs, advantages, config=, loss_mask=, rollout_logprobs=): ...   # a scalar, metrics
"""

from plugrad_compat.skyrl.functions import compute_approx_kl, masked_mean, reduce_loss, safe_exp_delta
from plugrad_compat.skyrl.registering import PolicyLoss, PolicyLossRegistry, register_policy_loss

__all__ = [
    "PolicyLoss",
    "PolicyLossRegistry",
    "compute_approx_kl",
    "masked_mean",
    "reduce_loss",
    "register_policy_loss",
    "safe_exp_delta",
]
