"""Components made from functions, a batch with numbers in it, and packages to select from."""

import importlib
import sys

import pytest
import torch

from plugrad import BatchLossInputs, MetricInputs, Rollout
from plugrad.host.loss import BoundLoss
from plugrad.registry.bind import bind
from plugrad.registry.resolve import Source


@pytest.fixture
def install(tmp_path, write):
    """Install a distribution whose entry points of one kind are the given functions of one module."""

    def install_one(name, group, functions, code):
        module = name.replace("-", "_") + "_module"
        info = tmp_path / "site" / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        points = "".join(f"{function} = {module}:{function}\n" for function in functions)
        (info / "entry_points.txt").write_text(f"[plugrad.{group}]\n{points}")
        write(f"site/{module}.py", code)
        sys.path.insert(0, str(info.parent))
        importlib.invalidate_caches()

    return install_one


@pytest.fixture
def component():
    """Bind a function or class of the test's as a component of a kind."""

    def make(target, kind="loss", **options):
        return bind(Source(kind, f"mine:{target.__name__}", target.__name__, f"mine:{target.__name__}"), target, options)

    return make


@pytest.fixture
def bound_loss(component):
    """Bind a function or class of the test's as a selected loss."""

    def make(target, **options):
        bound = component(target, **options)
        return BoundLoss.create(bound, label=target.__name__, weight=1.0, reduction="token")

    return make


@pytest.fixture
def batch():
    """Make sequences of 4, 2 and 3 counted tokens after a prompt of one; `trainer_logprobs` and `entropy` are leaves."""

    def make(**changes):
        generator = torch.Generator().manual_seed(0)

        def numbers(*shape):
            return -2 * torch.rand(*shape, generator=generator, dtype=torch.double)

        given = {
            "trainer_logprobs": numbers(3, 5).requires_grad_(),
            "inference_logprobs": numbers(3, 5),
            "teacher_logprobs": numbers(3, 5),
            "advantages": numbers(3, 5) + 1,
            "loss_mask": torch.tensor([[0, 1, 1, 1, 1], [0, 1, 1, 0, 0], [0, 1, 1, 1, 0]]).bool(),
            "old_logprobs": numbers(3, 5),
            "ref_logprobs": numbers(3, 5),
            "entropy": (-numbers(3, 5)).requires_grad_(),
            "logits": numbers(3, 5, 7),
            "hidden_states": numbers(3, 5, 4),
            "embedding": numbers(3, 4),
            "teacher_divergence": -numbers(3, 5),
            "teacher_logits": numbers(3, 5, 7),
            "values": numbers(3, 5),
            "old_values": numbers(3, 5),
            "returns": numbers(3, 5),
            "input_ids": torch.arange(15).reshape(3, 5),
            "reward": torch.tensor([1.0, 0.0, 0.5]),
            "group_ids": torch.tensor([0, 0, 1]),
            "metadata": [{"row": 0}, {"row": 1}, {"row": 2}],
            "step": 3,
            "max_steps": 7,
        }
        return BatchLossInputs(**{**given, **changes})

    return make


@pytest.fixture
def rollout():
    """Make a rollout; by default not yet scored."""

    def make(reward=float("nan"), length=2, **changes):
        made = Rollout(
            prompt="2+3=",
            completion="5",
            prompt_ids=[7, 8],
            completion_ids=[1] * length,
            inference_logprobs=[-0.5] * length,
            reward=reward,
            reward_components={},
            truncated=False,
            example={"example_id": "sum", "prompt": "2+3="},
            metrics={},
            policy_versions=[0] * length,
        )
        made.update(changes)
        return made

    return make


@pytest.fixture
def metric_inputs(rollout):
    """The metric inputs of one group of two rollouts, with everything that a metric may ask for."""
    values = torch.full((2, 3), -0.5)
    return MetricInputs(
        rollouts=[[rollout(1.0), rollout(0.0)]],
        rewards=torch.tensor([1.0, 0.0]),
        advantages=torch.tensor([[0.0, 0.5, 0.5], [0.0, -0.5, -0.5]]),
        loss_mask=torch.tensor([[False, True, True]] * 2),
        trainer_logprobs=values,
        inference_logprobs=values - 0.1,
        group_ids=torch.tensor([0, 0]),
        entropy=-values,
        old_logprobs=values - 0.2,
        ref_logprobs=values - 0.3,
    )
