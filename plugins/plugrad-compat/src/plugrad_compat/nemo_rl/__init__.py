"""NeMo RL: what its losses import.

`from nemo_rl.algorithms... import X` becomes `from plugrad_compat.nemo_rl import X`.

    class MyLoss(LossFunction):
        loss_type = LossType.TOKEN_LEVEL

        def __call__(self, next_token_logits, data, global_valid_seqs, global_valid_toks):
            ...                     # a scalar, metrics as Python numbers

Later versions pass `next_token_logprobs` for `input_type = LossInputType.LOGPROB`, and `logits` for LOGIT. The losses of
NeMo RL's guide extend BaseLossFunction: their `forward` names what it takes, such as `embeddings` and `labels`.
"""

from plugrad_compat.nemo_rl.functions import calculate_kl, masked_mean
from plugrad_compat.nemo_rl.interfaces import (
    BaseLossFunction,
    BatchedDataDict,
    LossFunction,
    LossInputType,
    LossType,
    MetricNormalizer,
)
from plugrad_compat.nemo_rl.named_in_guide import CrossEntropyLoss, FocalLoss

__all__ = [
    "BaseLossFunction",
    "BatchedDataDict",
    "CrossEntropyLoss",
    "FocalLoss",
    "LossFunction",
    "LossInputType",
    "LossType",
    "MetricNormalizer",
    "calculate_kl",
    "masked_mean",
]
