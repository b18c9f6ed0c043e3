"""prime-rl: its later names, and rollouts with the keys of `verifiers`."""

from __future__ import annotations

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs, ContractError, LossOutputs, OptionError, PluginError
from plugrad.testing import rollouts
from plugrad_compat.prime_rl.advantage import verifiers_rollout


def load(target, **options):
    return plugrad.load("loss", "plugrad-compat/prime_rl", target=target, **options)


def test_the_documented_loss_is_the_same_with_and_without_the_adapter(tokens, target):
    reference = target("prime_rl_losses", "ppo_clip_loss")
    inputs = tokens([1.0, 2.0, 0.2], [1.0, -1.0, 0.5])
    adapted, plain = load(reference, kwargs={"clip_eps": 0.1}), plugrad.load("loss", reference, clip_eps=0.1)
    assert adapted(inputs).loss.item() == pytest.approx(plain(inputs).loss.item())
    assert adapted.needs == frozenset()


def test_the_later_names_are_given(tokens, target):
    inputs = tokens([1.0, 1.0], [0.0, 0.0], ref_logprobs=torch.tensor([0.0, 0.0, -3.0, -1.0]).double())
    loss = load(target("prime_rl_losses", "distilled_loss"), kwargs={"tau": 2.0}, ref="reference")
    assert loss.needs == {"ref_logprobs"}
    # log pi is -2 for both tokens: one nat above and one below the reference.
    assert loss(inputs).loss.item() == pytest.approx(2.0 * (-2.0 * 1.0 + -2.0 * -1.0))
    assert load(target("prime_rl_losses", "distilled_loss"), ref="teacher").needs == {"teacher_logprobs"}


def test_the_earlier_name_of_the_teacher_is_given_with_the_later_one(tokens, written):
    path = written(
        """
        def mine(inputs):
            assert inputs.teacher_logprobs is inputs.ref_logprobs
            distance = inputs.trainer_logprobs - inputs.teacher_logprobs
            return LossOutputs(distance[inputs.loss_mask].sum(), {})

        from plugrad_compat.prime_rl import LossOutputs
        """
    )
    inputs = tokens([1.0, 1.0], [0.0, 0.0], teacher_logprobs=torch.tensor([0.0, 0.0, -3.0, -1.5]).double())
    assert load(f"{path}:mine", ref="teacher")(inputs).loss.item() == pytest.approx(1.0 - 0.5)


def test_another_class_of_outputs_will_do(tokens, written):
    path = written(
        """
        class Theirs:
            def __init__(self, loss, metrics):
                self.loss, self.metrics = loss, metrics

        def mine(inputs):
            return Theirs(-inputs.trainer_logprobs[inputs.loss_mask].sum(), {"one": inputs.loss_weights.mean()})
        """
    )
    outputs = load(f"{path}:mine")(tokens([1.0, 1.0], [0.0, 0.0]))
    assert isinstance(outputs, LossOutputs)
    assert outputs.loss.item() == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("code", "kwargs", "error", "complaint"),
    [
        (
            "def mine(inputs, clip_eps=0.2): ...",
            {"clip_esp": 0.1},
            OptionError,
            "no keyword argument 'clip_esp': it takes clip_eps",
        ),
        (
            "def mine(inputs): return inputs.trainer_logprobs.sum()",
            {},
            ContractError,
            "returned Tensor; a prime-rl loss returns",
        ),
        ("def mine(prompts, completions): ...", {}, PluginError, "It looks like a TRL reward function"),
    ],
)
def test_what_is_of_another_style_is_told_so(code, kwargs, error, complaint, tokens, written):
    path = written(code)
    with pytest.raises(error, match=complaint):
        load(f"{path}:mine", kwargs=kwargs)(tokens([1.0], [1.0]))


def test_rollouts_have_the_keys_of_verifiers():
    ((rollout,),) = rollouts([[0.5]], components=[[{"format": 0.5}]])
    found = verifiers_rollout(rollout)
    assert {"reward", "prompt", "completion", "trajectory", "metrics", "info", "example_id", "answer"} <= found.keys()
    (turn,) = found["trajectory"]
    assert turn["tokens"]["completion_ids"] == rollout["completion_ids"]
    assert turn["tokens"]["completion_mask"] == [1] * len(rollout["completion_ids"])
    assert {"prompt", "completion", "advantage", "is_truncated", "extras"} <= turn.keys()
    assert turn["reward"] == found["reward"] == 0.5
    assert (found["metrics"], found["info"]) == ({"format": 0.5}, {})
    assert "answer" not in rollout


def test_every_reply_is_a_step_with_the_tokens_that_it_followed():
    ((rollout,),) = rollouts([[1.5]])
    # Row 0: prompt 1 2, reply 3 4, the environment's 5, reply 6. Row 1, begun anew: prompt 7, reply 8 9.
    rollout.update(
        prompt="go", prompt_ids=[1, 2], completion_ids=[3, 4, 6, 8, 9], truncated=True,
        inference_logprobs=[-0.1, -0.2, -0.3, -0.4, -0.5],
        segments=[
            {"ids": [1, 2, 3, 4, 5, 6], "sampled": [False, False, True, True, False, True]},
            {"ids": [7, 8, 9], "sampled": [False, True, True]},
        ],
        turns=[
            {"role": "assistant", "text": "a", "start": 0, "stop": 2, "reward": 0.5},
            {"role": "user", "text": "u", "start": 2, "stop": 2, "reward": None},
            {"role": "assistant", "text": "b", "start": 2, "stop": 3, "reward": None},
            {"role": "tool", "text": "t", "start": 3, "stop": 3, "reward": None},
            {"role": "assistant", "text": "c", "start": 3, "stop": 5, "reward": 1.0},
        ],
    )  # fmt: skip
    steps = verifiers_rollout(rollout)["trajectory"]
    tokens = [step["tokens"] for step in steps]
    assert [each["prompt_ids"] for each in tokens] == [[1, 2], [1, 2, 3, 4, 5], [7]]
    assert [each["completion_ids"] for each in tokens] == [[3, 4], [6], [8, 9]]
    assert [each["completion_logprobs"] for each in tokens] == [[-0.1, -0.2], [-0.3], [-0.4, -0.5]]
    assert [(each["prompt_mask"], each["completion_mask"]) for each in tokens][1] == ([0] * 5, [1])
    assert [each["is_truncated"] for each in tokens] == [False, False, True]
    assert [(step["prompt"], step["completion"]) for step in steps] == [("go", "a"), ("go\na\nu", "b"), ("t", "c")]
    assert [(step["reward"], step["trajectory_id"]) for step in steps] == [(0.5, "0"), (None, "0"), (1.0, "1")]


def test_a_play_without_a_reply_has_the_one_step():
    ((rollout,),) = rollouts([[0.0]])
    rollout.update(turns=[{"role": "user", "text": "u", "start": 0, "stop": 0, "reward": None}], completion_ids=[])
    (step,) = verifiers_rollout(rollout)["trajectory"]
    assert step["tokens"]["completion_ids"] == []


def test_what_an_environment_supplied_stays():
    ((rollout,),) = rollouts([[1.0]])
    rollout.update(trajectory=[{"turn": 1}, {"turn": 2}], info={"seed": 3}, metrics={"tidy": 0.25})
    found = verifiers_rollout(rollout)
    assert (found["trajectory"], found["info"], found["metrics"]) == (
        [{"turn": 1}, {"turn": 2}],
        {"seed": 3},
        {"tidy": 0.25},
    )


def test_an_advantage_reads_them(target):
    groups = rollouts([[1.0, 0.0], [0.0, 0.0]])
    groups[1][0]["trajectory"] = [{}, {}, {}]
    groups[0][1]["metrics"] = {"tidy": 0.5}
    advantage = plugrad.load(
        "advantage", "plugrad-compat/prime_rl", target=target("prime_rl_losses", "by_trajectory"), kwargs={"bonus": 1.0}
    )
    found = advantage(AdvantageInputs(rollouts=groups)).advantages
    torch.testing.assert_close(found.tolist(), [[0.25, -0.25], [1.0, -1.0]])


def test_an_advantage_that_returns_something_else_is_told_so(written):
    path = written("def mine(inputs): return inputs.rewards")
    advantage = plugrad.load("advantage", "plugrad-compat/prime_rl", target=f"{path}:mine")
    with pytest.raises(ContractError, match="returned Tensor; a prime-rl advantage returns"):
        advantage(AdvantageInputs(rollouts=rollouts([[1.0, 0.0]])))
