"""verl: what its losses and advantage estimators import.

`from verl.trainer.ppo.core_algos import X` becomes `from plugrad_compat.verl import X`, and
`import verl.utils.torch_functional as verl_F` becomes `import plugrad_compat.verl as verl_F`.

    @register_policy_loss("my_loss")
    def my_loss(old_log_prob, log_prob, advantages, response_mask, loss_agg_mode, config, rollout_is_weights):
        ...                     # a scalar, metrics

    @register_adv_est("my_estimator")
    def my_estimator(token_level_rewards, response_mask, index, config=None):
        ...                     # advantages, returns: [batch, response_length]
"""

from plugrad_compat.adapters.masked import masked_mean, masked_sum, masked_var, masked_whiten
from plugrad_compat.verl.configs import ActorConfig, AlgoConfig
from plugrad_compat.verl.functions import agg_loss
from plugrad_compat.verl.registering import (
    get_adv_estimator_fn,
    get_policy_loss_fn,
    register_adv_est,
    register_policy_loss,
)

__all__ = [
    "ActorConfig",
    "AlgoConfig",
    "agg_loss",
    "get_adv_estimator_fn",
    "get_policy_loss_fn",
    "masked_mean",
    "masked_sum",
    "masked_var",
    "masked_whiten",
    "register_adv_est",
    "register_policy_loss",
]
