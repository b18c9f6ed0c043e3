"""Keys of other systems in a run file, and where plugrad has them: for the messages about unknown keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SKYRL, VERL, PRIME_RL = "SkyRL", "verl", "prime-rl"

HERE: dict[str, tuple[str, str]] = {
    "trainer.algorithm.policy_loss_type": (SKYRL, "loss.name"),
    "trainer.algorithm.advantage_estimator": (SKYRL, "advantage.name"),
    "trainer.algorithm": (SKYRL, "loss.kwargs"),
    "trainer.policy.model.path": (SKYRL, "model.name"),
    "trainer.policy.optimizer_config": (SKYRL, "optimizer"),
    "trainer.train_batch_size": (SKYRL, "rollout.prompts_per_step"),
    "trainer.policy_mini_batch_size": (SKYRL, "updates_per_batch"),
    "trainer.micro_train_batch_size_per_gpu": (SKYRL, "tokens_per_micro_batch"),
    "trainer.eval_interval": (SKYRL, "evaluation.every_steps"),
    "trainer.export_path": (SKYRL, "output_dir"),
    "trainer.epochs": (SKYRL, "max_steps"),
    "trainer.seed": (SKYRL, "seed"),
    "trainer.loss": (PRIME_RL, "loss.kwargs"),
    "trainer.optim": (PRIME_RL, "optimizer"),
    "generator.n_samples_per_prompt": (SKYRL, "rollout.rollouts_per_example"),
    "generator.sampling_params.max_generate_length": (SKYRL, "rollout.max_new_tokens"),
    "generator.sampling_params": (SKYRL, "rollout"),
    "generator": (SKYRL, "rollout"),
    "data.train_data": (SKYRL, "environment.kwargs.path"),
    "data.val_data": (SKYRL, "environment.kwargs.eval_path"),
    "environment.env_class": (SKYRL, "environment.name"),
    "actor_rollout_ref.model.path": (VERL, "model.name"),
    "actor_rollout_ref.actor.policy_loss.loss_mode": (VERL, "loss.name"),
    "actor_rollout_ref.actor.optim": (VERL, "optimizer"),
    "actor_rollout_ref.actor": (VERL, "loss.kwargs"),
    "actor_rollout_ref.rollout.n": (VERL, "rollout.rollouts_per_example"),
    "actor_rollout_ref.rollout": (VERL, "rollout"),
    "algorithm.adv_estimator": (VERL, "advantage.name"),
    "data.train_files": (VERL, "environment.kwargs.path"),
    "data.val_files": (VERL, "environment.kwargs.eval_path"),
    "data.train_batch_size": (VERL, "rollout.prompts_per_step"),
    "data.max_response_length": (VERL, "rollout.max_new_tokens"),
}
"""The system and plugrad's key. A table's entry stands for all of its keys, unless a longer one names them."""


def place_of(where: Sequence[str], value: Any) -> str:
    """Return the sentence that names plugrad's keys for what was written at `where`, or the empty string."""
    found = [sentence for key in _leaves(".".join(where), value) if (sentence := _sentence(key))]
    return "".join(f" {sentence}" for sentence in dict.fromkeys(found))


def _sentence(key: str) -> str:
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        if (known := ".".join(parts[:length])) in HERE:
            system, ours = HERE[known]
            return f"{system}'s {key} is {'.'.join([ours, *parts[-1:]]) if length < len(parts) else ours} here."
    return ""


def _leaves(key: str, value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping) or not value:
        yield key
        return
    for name, inner in value.items():
        yield from _leaves(f"{key}.{name}", inner)
