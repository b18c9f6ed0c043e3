"""Every disease is found in a run that has it, with its numbers and its remedy, and a healthy run has none."""

import json
import re

import pytest

from plugrad.diagnosis.diagnosing import FINDERS, found_in

STEPS = re.compile(r"\bsteps? \d+")


@pytest.fixture(scope="module")
def idle(train_tiny):
    """A run whose learning rate moves nothing."""
    rollout = {"prompts_per_step": 4, "rollouts_per_example": 4, "max_new_tokens": 2}
    return train_tiny("idle", optimizer={"lr": 1e-9}, loss=[{"name": "ppo_clip"}], updates_per_batch=2, rollout=rollout)


@pytest.fixture(scope="module")
def broken(train_tiny):
    """A run whose learning rate breaks the policy."""
    rollout = {"prompts_per_step": 4, "rollouts_per_example": 4, "max_new_tokens": 12}
    losses = [{"name": "ppo_clip"}, {"name": "kl_to_reference", "weight": 1e-6}]
    return train_tiny("broken", optimizer={"lr": 1.0}, loss=losses, updates_per_batch=4, rollout=rollout, max_steps=16)


@pytest.fixture(scope="module")
def hasty(train_tiny):
    """A run whose policy moves far within a batch, for a reward that nothing can raise."""
    loss = {"name": "ppo_clip", "kwargs": {"clip_eps": 0.001}}
    rollout = {"prompts_per_step": 4, "rollouts_per_example": 4, "max_new_tokens": 4}
    return train_tiny("hasty", reward="chance", optimizer={"lr": 0.05}, loss=[loss], updates_per_batch=4, rollout=rollout)


def test_a_healthy_run_has_none(train_tiny, found):
    assert found(train_tiny("healthy", max_steps=20)) == {}


@pytest.mark.parametrize(
    ("disease", "key"),
    [
        ("learning_rate_too_small", "optimizer.lr"),
        ("reward_flat", "optimizer.lr"),
        ("truncated_completions", "rollout.max_new_tokens"),
        ("clip_never_acts", "optimizer.lr"),
    ],
)
def test_a_run_that_hardly_moves(idle, found, disease, key):
    finding = found(idle)[disease]
    assert STEPS.search(finding.evidence) or "updates" in finding.evidence
    assert key in finding.remedy


@pytest.mark.parametrize(
    ("disease", "key"),
    [
        ("learning_rate_too_large", "optimizer.lr"),
        ("kl_runaway", "loss.weight"),
        ("truncated_completions", "rollout.max_new_tokens"),
        ("entropy_collapse", "entropy_bonus"),
        ("repetition", "optimizer.lr"),
    ],
)
def test_a_run_that_broke(broken, found, disease, key):
    finding = found(broken)[disease]
    assert STEPS.search(finding.evidence)
    assert key in finding.remedy


@pytest.mark.parametrize("disease", ["stale_samples", "tokens_clipped"])
def test_a_policy_that_leaves_its_batch_behind(hasty, found, disease):
    finding = found(hasty)[disease]
    assert STEPS.search(finding.evidence)
    assert "updates_per_batch (4)" in finding.remedy


def test_a_reward_that_is_always_the_same(train_tiny, found):
    diseases = found(train_tiny("constant", reward="nothing", max_steps=3))
    assert diseases["constant_reward"].title == "The reward was 0.000 in every step, so there was nothing to learn from"
    # It says the same of each group.
    assert "equal_groups" not in diseases
    assert "no_gradient" not in diseases


@pytest.mark.parametrize(("reward", "why"), [("by_example", "too hard"), ("but_by_example", "too easy")])
def test_groups_that_are_all_equal(train_tiny, found, reward, why):
    finding = found(train_tiny(reward, reward=reward))["equal_groups"]
    assert finding.title.endswith(why)
    assert "reward/equal_groups was 1 in steps 1 to 6" in finding.evidence


def test_updates_that_are_skipped(train_tiny, found):
    folder = train_tiny("skips", loss=[{"name": "parts.py:sometimes_nan"}], extension=[{"name": "nan_guard"}], max_steps=8)
    finding = found(folder)["skipped_updates"]
    assert finding.severity == "problem"
    assert re.search(r"in 3 of 8 steps, first in step 4 and last in step 8", finding.evidence)


def test_no_gradient_and_a_loss_and_a_metric_that_never_fire(train_tiny, found):
    rare = {"name": "kl_to_reference", "where": {"reference": "7"}}
    diseases = found(
        train_tiny(
            "silent",
            loss=[{"name": "parts.py:no_slope"}, rare],
            metric=[{"name": "parts.py:void"}],
            max_steps=2,
            rollout={"prompts_per_step": 1, "rollouts_per_example": 4, "max_new_tokens": 4},
        )
    )
    assert "grad_norm was exactly 0 in steps 1 to 2" in diseases["no_gradient"].evidence
    assert "void/value is null" in diseases["silent_metric"].evidence
    assert "{'reference': '7'}" in diseases["silent_loss"].evidence


def test_gradients_that_are_always_clipped(train_tiny, found):
    folder = train_tiny("clipped", loss=[{"name": "importance_sampling", "weight": 1e4}], optimizer={"lr": 1e-9})
    assert "100% of steps 1 to 12" in found(folder)["gradients_clipped"].evidence


def test_completions_that_grow_for_nothing(train_tiny, found):
    rollout = {"prompts_per_step": 2, "rollouts_per_example": 8, "max_new_tokens": 64}
    tables = {"extension": [{"name": "parts.py:LikesLength"}], "rollout": rollout, "optimizer": {"lr": 2e-2}}
    folder = train_tiny("long", reward="nothing", **tables)
    diseases = found(folder)
    assert "completion_length/mean was" in diseases["length_drift"].evidence


def test_a_held_out_reward_that_falls(train_tiny, found):
    environment, evaluation = {"name": "parts.py:Split"}, {"every_steps": 4, "num_examples": 8}
    folder = train_tiny("gamed", environment=environment, evaluation=evaluation, max_steps=20)
    assert re.search(r"eval/reward was .* after step \d+ and .* after step 20", found(folder)["held_out_falls"].evidence)


def with_parity(numbers):
    return {"inference_mismatch/parity": [0.0], **numbers}


FLAT = [0.2, 0.3, 0.25] * 5


@pytest.mark.parametrize(
    ("disease", "numbers", "run_file"),
    [
        # No engine here scores otherwise than the trainer, and none is late.
        ("engine_mismatch", {"inference_mismatch/kl": [0.2] * 12}, {}),
        (
            "dropped_rollouts",
            {"dropped_rollouts": [3.0] * 12, "reward": FLAT[:12]},
            {"rollout": {"prompts_per_step": 2, "rollouts_per_example": 4}},
        ),
        ("zero_advantages", {"advantage/zero": [1.0] * 12, "reward/equal_groups": [0.1] * 12}, {"advantage": {"name": "a"}}),
        ("updates_rounded_away", {"reward": FLAT}, {"model": {"dtype": "bfloat16"}, "optimizer": {"lr": 1e-6}}),
        ("silent_metric", {"reward": [1.0, 2.0]}, {"metrics": ["entropy"]}),
        ("reward_fell", {"reward": [1 - reward - 0.02 * step for step, reward in enumerate(FLAT)]}, {}),
    ],
)
def test_diseases_that_no_short_run_has(made_up, disease, numbers, run_file):
    assert disease in [finding.name for finding in found_in(made_up(with_parity(numbers), run_file))]


def sample(step, **fields):
    return {"step": step, "phase": "training", "completion": "", "rewards": {}, **fields}


def test_a_component_that_drowns_the_others(made_up):
    lines = [sample(step, rewards={"style": 0.01 * (step % 2), "answer": 100.0 * (step % 3)}) for step in range(1, 20)]
    (finding,) = found_in(made_up({}, samples=lines))
    assert finding.name == "component_dominates"
    assert "'answer' ranges over 200" in finding.evidence
    even = [sample(step, rewards={"style": step % 2, "answer": step % 3}) for step in range(1, 20)]
    assert found_in(made_up({}, samples=even)) == []


def test_a_component_that_drowns_the_others_beside_their_sum(made_up):
    lines = [sample(step, rewards={"style": 0.01 * (step % 2), "answer": 100.0 * (step % 3)}) for step in range(1, 20)]
    for line in lines:
        line["rewards"]["reward"] = sum(line["rewards"].values())
    (finding,) = found_in(made_up({}, samples=lines))
    assert "'answer' ranges over 200" in finding.evidence
    for line in lines:
        line["rewards"]["reward"] = line["rewards"]["style"]
    assert found_in(made_up({}, samples=lines)) == []


@pytest.mark.parametrize(("temperature", "entropy"), [(0.01, 1e-14), (1.0, 1e-14), (0.01, 0.5)])
def test_a_temperature_that_explores_nothing(made_up, temperature, entropy):
    numbers = {
        "reward": [0.0] * 12,
        "reward/equal_groups": [1.0] * 12,
        "entropy/mean": [entropy] * 6 + [4 * entropy] * 6,
        "grad_norm": [0.0] * 12,
    }
    found = {each.name: each for each in found_in(made_up(with_parity(numbers), {"rollout": {"temperature": temperature}}))}
    assert "constant_reward" in found
    assert "no_gradient" not in found
    assert ("cold_sampling" in found) == (temperature == 0.01 and entropy < 0.1)
    # Rounding that grows is no policy that breaks.
    assert ("learning_rate_too_large" in found) == (entropy > 0.1)
    if "cold_sampling" in found:
        assert "rollout.temperature to 1.0; it is 0.01" in found["cold_sampling"].remedy


@pytest.mark.parametrize(("rise", "severity"), [(0.0, "problem"), (0.1, "warning")])
def test_repetition_that_a_reward_asks_for_is_a_warning(made_up, rise, severity):
    numbers = {
        "reward": [reward + rise * step for step, reward in enumerate(FLAT)],
        "repetition/mean": [0.05 * step for step in range(len(FLAT))],
    }
    (finding,) = [each for each in found_in(made_up(with_parity(numbers))) if each.name == "repetition"]
    assert finding.severity == severity


def test_repetition_in_samples(made_up):
    lines = [sample(step, completion="so it is " * 20) for step in range(1, 12)]
    assert [finding.name for finding in found_in(made_up({}, samples=lines))] == ["repetition"]
    various = [sample(step, completion=" ".join(map(str, range(step, step + 20)))) for step in range(1, 12)]
    assert found_in(made_up({}, samples=various)) == []


@pytest.mark.parametrize(
    ("numbers", "plugins"),
    [
        ({"reward": FLAT, "inference_mismatch/parity": {}}, {"learns_from_rewards": False}),
        (with_parity({"reward": [0.0] * 20}), {"learns_from_rewards": False}),
        (with_parity({"reward": [reward + 0.02 * step for step, reward in enumerate(FLAT)]}), {}),
        (with_parity({"reward": [0.1, 0.2, 0.1]}), {}),
        ({"reward": FLAT}, {}),
        ({}, {}),
    ],
)
def test_what_is_no_disease(made_up, numbers, plugins):
    found = [finding.name for finding in found_in(made_up(numbers, **plugins))]
    assert set(found) <= ({"reward_flat"} if plugins and len(numbers["reward"]) == 15 else set())


@pytest.mark.parametrize("prefix", ["eval", "eval/hard"])
def test_numbers_of_held_out_completions_are_none_of_training(made_up, prefix):
    of_both = {"inference_mismatch/kl": [2.0] * 15, "kl/reference_k3": [2.0] * 15, "own/clip_fraction": [0.9] * 15}
    of_held_out = {f"{prefix}/{name}": values for name, values in of_both.items()}
    alone = [finding.name for finding in found_in(made_up(with_parity({"reward": FLAT, **of_held_out})))]
    assert alone == ["reward_flat"]
    assert {"kl_runaway", "tokens_clipped"} <= {f.name for f in found_in(made_up(with_parity({"reward": FLAT, **of_both})))}


def test_a_solved_task_is_healthy(made_up):
    """Its groups are equal, its entropy is gone and its gradient vanishes: it has learned."""
    rise = [min(1.0, step / 10) for step in range(40)]
    numbers = {
        "reward": rise,
        "reward/min": [0.0] * 20 + [1.0] * 20,
        "reward/max": [1.0] * 40,
        "reward/equal_groups": [0.2] * 10 + [1.0] * 30,
        "entropy/mean": [2.0] * 5 + [0.001] * 35,
        "completion_length/truncated": [1.0] * 40,
        "grad_norm": [50.0] * 40,
    }
    run_file = {"rollout": {"rollouts_per_example": 8}, "optimizer": {"max_grad_norm": 1.0, "lr": 1e-5}}
    assert found_in(made_up(with_parity(numbers), run_file)) == []


@pytest.mark.parametrize(("share", "names"), [(0.1, {"failed_plays"}), (0.01, set())])
def test_plays_that_fail_are_found(made_up, share, names):
    rise = [min(1.0, step / 10) for step in range(40)]
    found = {each.name: each for each in found_in(made_up({"reward": rise, "environment/failed": [share] * 40}))}
    assert names == found.keys() & {"failed_plays"}
    assert not names or found["failed_plays"].title.startswith("10% of the plays failed")


@pytest.mark.parametrize(("lr", "findings"), [(1e-5, set()), (1.0, {"learning_rate_too_large"})])
def test_a_task_that_is_solved_from_the_start_has_no_disease_of_one_that_is_not(made_up, lr, findings):
    """Only a learning rate that breaks the policy is told beside it."""
    numbers = {
        "reward": [0.97, 0.99, 0.98] * 8,
        "reward/min": [0.0] * 24,
        "reward/max": [1.0] * 24,
        "reward/equal_groups": [0.8] * 24,
        "entropy/mean": [1.1] * 3 + [0.001] * 21,
        "completion_length/truncated": [1.0] * 24,
        "lr": [lr] * 24,
    }
    run_file = {"optimizer": {"lr": lr}, "rollout": {"rollouts_per_example": 8}}
    found = {each.name: each for each in found_in(made_up(with_parity(numbers), run_file))}
    assert found.keys() == {"reward_flat", *findings}
    assert found["reward_flat"].severity == "warning"
    assert "near its top" in found["reward_flat"].title
    numbers["reward/equal_groups"] = [1.0] * 24
    assert {each.name for each in found_in(made_up(with_parity(numbers), run_file))} == {"equal_groups", *findings}


def test_every_finder_says_what_it_looks_for():
    assert all(finder.__doc__ for finder in FINDERS)
    assert len({json.dumps(finder.__name__) for finder in FINDERS}) == len(FINDERS)
