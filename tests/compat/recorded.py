"""A batch of recorded completions, and plugrad's own updates on it: loss and gradient of each."""

import random
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from scenario import Gradients

from plugrad import AdvantageInputs, RunFile, load
from plugrad.host.advantage import BoundAdvantage, per_token
from plugrad.host.hooks import Hooks, Host
from plugrad.host.load import load_component
from plugrad.host.loss import BoundLoss
from plugrad.policy.loading import LoadedModel
from plugrad.policy.micro_batches import Layout
from plugrad.registry.scan import scan
from plugrad.testing import tiny_model, tiny_tokenizer
from plugrad.trainer.batch.cut import Cutting
from plugrad.trainer.batch.sampler import RolloutBatch
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.update.frozen_models import load_frozen_models
from plugrad.trainer.update.learner import make_learner
from plugrad.trainer.update.run_progress import Progress
from plugrad.trainer.update.run_updates import run_updates

NUM_PROMPTS, PER_PROMPT, LONGEST = 2, 4, 9
LR, EPS = 1e-2, 1e-3
FIRST, LAST = 3, 90


@dataclass(frozen=True)
class Completion:
    prompt: str
    prompt_ids: list[int]
    ids: list[int]
    reward: float


def completions(tokenizer):
    """Draw completions of unequal length; each ends with the end-of-sequence token."""
    draw, recorded = random.Random(0), []
    for prompt in ("12+34=", "5+6="):
        ids = tokenizer(prompt)["input_ids"]
        for _ in range(PER_PROMPT):
            own = [draw.randrange(FIRST, LAST) for _ in range(draw.randint(1, LONGEST - 1))]
            own = [token for token in own if token != tokenizer.eos_token_id]
            recorded.append(Completion(prompt, ids, [*own, tokenizer.eos_token_id], draw.random()))
    return recorded


def rollout(completion, index):
    return {
        "prompt_ids": completion.prompt_ids,
        "completion_ids": completion.ids,
        "inference_logprobs": None,
        "reward": completion.reward,
        "reward_components": {},
        "metrics": {},
        "truncated": False,
        "example": {"example_id": index},
    }


def our_updates(recorded, loss, advantage, *, options=None, num_updates=2, is_stale=False, reduction=None):
    """Train on the batch, so many times over; return the loss and the gradient of each update.

    Where `is_stale`, old log-probs are those of before the first of them.
    """
    groups = [
        [rollout(c, i) for c in recorded[i * PER_PROMPT : (i + 1) * PER_PROMPT]] for i in range(len(recorded) // PER_PROMPT)
    ]
    component = load_component("loss", loss, dict(options or {}), scan(), [])
    bound = BoundLoss.create(component, label="loss", weight=1.0, reduction=reduction or component.facts.reduction)
    advantages = load("advantage", advantage)(AdvantageInputs(rollouts=groups))
    lengths = [[len(r["completion_ids"]) for r in group] for group in groups]
    rewards = [[r["reward"] for r in group] for group in groups]
    batch = RolloutBatch(groups, rewards=rewards, advantages=per_token(advantages, lengths))
    learner = _learner(bound, is_stale)
    watch = Gradients(learner.model)
    named = load_component("advantage", "constant", {}, scan(), [])
    extension = load_component("extension", "timing", {}, scan(), [])
    hooks = Hooks(Host(BoundAdvantage(named, named.create()), []), [(extension, watch)])
    cutting = Cutting(1, LONGEST, Layout(1000, 0, torch.float32))
    if is_stale:
        outcomes = run_updates(learner, batch, SeveralTimes(cutting, num_updates), hooks, Progress(0, num_updates))
    else:
        progress = [Progress(update, num_updates) for update in range(num_updates)]
        outcomes = [outcome for each in progress for outcome in run_updates(learner, batch, cutting, hooks, each)]
    return [outcome.measures["loss"].value() for outcome in outcomes], watch.kept


@dataclass(frozen=True)
class SeveralTimes:
    """The whole batch again for each update, scored once before the first."""

    cutting: Cutting
    times: int

    def cut(self, batch, ranks):
        return self.cutting.cut(batch, ranks) * self.times


def _learner(bound, is_stale):
    run_file = RunFile(
        max_steps=10,
        updates_per_batch=2 if is_stale else 1,
        model={"from_scratch": {"model_type": "qwen3"}},
        environment={"name": "arithmetic"},
        rollout={"prompts_per_step": 4},
        optimizer={"lr": LR, "max_grad_norm": 1e9, "schedule": "constant", "weight_decay": 0.0, "eps": EPS},
    )
    loaded = LoadedModel(tiny_model(), tiny_tokenizer())
    accelerator = Accelerator(cpu=True)
    frozen = load_frozen_models(run_file, loaded, bound.needs, accelerator.device)
    return make_learner(run_file, loaded, frozen, [bound], needs=bound.needs, accelerator=accelerator, ranks=Ranks())
