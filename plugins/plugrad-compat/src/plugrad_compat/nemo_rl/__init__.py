"""NeMo RL: what its losses import.

`from nemo_rl.algorithms... import X` becomes `from plugrad_compat.nemo_rl import X`.

    class MyLoss(LossFunction):
        loss_type = LossType.TOKEN_LEVEL

        def __call__(self, next_token_logits, data, global_valid_seqs, global_valid_toks):
            ...                     # a scalar, metrics as Python numbers

Later versions pass `next_token_logprobs` for `input_type = LossInputType.LOGPROB`, and `logits` for LOGIT.
"""

from plugrad_compat.nemo_rl.functions import calculate_kl, masked_mean
from plugrad_compat.nemo_rl.interfaces import BatchedDataDict, LossFunction, LossInputType, LossType, MetricNormalizer

__all__ = [
    "BatchedDataDict",
    "LossFunction",
    "LossInputType",
    "LossType",
    "MetricNormalizer",
    "calculate_kl",
    "masked_mean",
]
