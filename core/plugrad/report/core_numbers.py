"""What the trainer's own numbers mean: captions of their curves."""

from __future__ import annotations

THE_RUN, EVALUATION, SPEED = "The run", "Evaluation", "Speed"
LEARNING = {
    "reward": "Mean reward of the batch of rollouts, as the environment returned it.",
    "loss": "The objective.",
    "grad_norm": "Norm of the gradient, before clipping.",
    "lr": "Learning rate of the update.",
    "skipped_updates": "Number of updates that an extension skipped.",
    "dropped_rollouts": "Rollouts that had become too old and were sampled again.",
    "failed_greedy_plays": "Plays of a greedy baseline that failed.",
    "dropped_prompts": "Prompts that the run leaves out because they are too long.",
}
SPEEDS = {
    "seconds": "Wall-clock time of the step, without the evaluation.",
    "rollouts_s": "The part of it spent waiting for rollouts.",
    "tokens_per_s": "Sampled tokens divided by the seconds of the step.",
    "num_tokens": "Tokens sampled in this step.",
    "tokens_per_s_per_device": "The same for one of the devices.",
    "mfu": "Model FLOPs of the updates, as a share of what the devices could do outside rollouts.",
    "memory_gib": "Peak memory of a process so far, in GiB; the largest of several processes.",
}
OTHERS = {
    "inference_mismatch/parity": "Mean distance between the engine's and the trainer's log-probs, in nats.",
    "inference_mismatch/parity_max": "The same at the token where they differ most.",
    "router/busiest_expert": "Tokens of the busiest expert over an even share, as a mean over layers: 1 is even.",
}
CORE_NUMBERS = LEARNING | SPEEDS | OTHERS
OF_HELD_OUT = {
    "reward": "Mean reward of completions of held-out examples.",
    "completion_length": "Their mean length in tokens.",
    "pass_at_k": "The probability that at least one of so many completions of a held-out example succeeds.",
    "mean_at_k": "Mean reward of so many completions of each held-out example.",
    "maj_at_k": "Reward of the most frequent answer among so many completions of each held-out example.",
}
"""By what comes after the set in a number's name."""
OF_A_LOSS = "The loss's contribution to the objective, before its weight."
OF_THE_ENVIRONMENT = "Mean of what the environment noted for each rollout."
