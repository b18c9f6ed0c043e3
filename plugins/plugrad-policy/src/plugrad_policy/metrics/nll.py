"""The log of the perplexity of completions, for the trainer and for the engine."""

from __future__ import annotations

from plugrad import Mean, Measure, MetricInputs


def nll(inputs: MetricInputs) -> dict[str, Measure]:
    """-log pi and -log mu of the counted tokens, in nats. The exponential of a mean is the perplexity.

    Means of logarithms add up over micro-batches and ranks, and means of perplexities do not. Where the two differ, trainer
    and engine disagree about what was sampled; `kl` says by how much.

    Reports:
        trainer: the mean for the trainer.
        engine: the mean for the engine; absent if completions were replayed.
    """
    measures: dict[str, Measure] = {"trainer": Mean.over(-inputs.trainer_logprobs, inputs.loss_mask)}
    if inputs.inference_logprobs is not None:
        measures["engine"] = Mean.over(-inputs.inference_logprobs, inputs.loss_mask)
    return measures
