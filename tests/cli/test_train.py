"""`plugrad train`, as a user runs it."""

import json

import pytest

PRIME_RL = """
import torch
from plugrad import AdvantageInputs, AdvantageOutputs, LossInputs, LossOutputs

def ppo_clip_loss(inputs: LossInputs, clip_eps: float = 0.2) -> LossOutputs:
    ratio = torch.exp(inputs.trainer_logprobs - inputs.inference_logprobs)
    clipped_ratio = torch.clamp(ratio, 1 - clip_eps, 1 + clip_eps)
    surr1 = ratio * inputs.advantages
    surr2 = clipped_ratio * inputs.advantages
    loss = -torch.min(surr1, surr2)[inputs.loss_mask].sum()
    metrics = {
        "clip_frac": (ratio != clipped_ratio)[inputs.loss_mask].float().mean(),
        "ratio_mean": ratio[inputs.loss_mask].mean(),
    }
    return LossOutputs(loss=loss, metrics=metrics)

def normalized_advantage(inputs: AdvantageInputs, eps: float = 1e-8) -> AdvantageOutputs:
    mean = inputs.rewards.mean(dim=1, keepdim=True)
    std = inputs.rewards.std(dim=1, keepdim=True)
    return AdvantageOutputs(advantages=(inputs.rewards - mean) / (std + eps))

def normalized_advantage_from_rollouts(inputs: AdvantageInputs, eps: float = 1e-8) -> AdvantageOutputs:
    rewards = torch.tensor([[r["reward"] for r in group] for group in inputs.rollouts])
    mean = rewards.mean(dim=1, keepdim=True)
    std = rewards.std(dim=1, keepdim=True)
    return AdvantageOutputs(advantages=(rewards - mean) / (std + eps))
"""


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("key", ["import_path", "path"])
@pytest.mark.parametrize("advantage", ["normalized_advantage", "normalized_advantage_from_rollouts"])
def test_prime_rls_examples_train_unchanged(plugrad, folder, key, advantage):
    (folder / "my_module.py").write_text(PRIME_RL)
    (folder / "run.toml").write_text(
        (folder / "run.toml").read_text()
        + f'[loss]\ntype = "custom"\n{key} = "my_module.ppo_clip_loss"\nkwargs = {{ clip_eps = 0.1 }}\n'
        + f'[advantage]\ntype = "custom"\n{key} = "my_module.{advantage}"\n'
    )
    done = plugrad("train", "run.toml")
    assert done.returncode == 0, done.stderr
    found = records(folder / "runs" / "run")
    assert len(found) == 3
    assert found[0]["ppo_clip_loss/ratio_mean"] == pytest.approx(1.0, abs=1e-5)
    resolved = (folder / "runs" / "run" / "run.toml").read_text()
    assert "clip_eps = 0.1" in resolved
    assert "eps = 1e-08" in resolved


def test_a_run_prints_plain_lines_and_a_summary_into_a_pipe(plugrad_process, folder):
    done = plugrad_process("train", "run.toml", "--set", "evaluation.every_steps=3")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith("run: ")
    assert "1 process" in lines[0]
    assert any(line.startswith("step 3/3") and "held-out" in line for line in lines)
    assert str(folder / "runs" / "run" / "model") in done.stdout


def test_set_overrides_the_run_file(plugrad, folder):
    done = plugrad(
        "train", "run.toml", "--set", "max_steps=1", "--set", "loss.name=ppo_clip", "--set", "loss.kwargs.clip_eps=0.1"
    )
    assert done.returncode == 0, done.stderr
    assert len(records(folder / "runs" / "run")) == 1
    assert "clip_eps = 0.1" in (folder / "runs" / "run" / "run.toml").read_text()


def test_a_loss_in_a_file_beside_the_run_file_is_found_from_elsewhere(plugrad, folder, monkeypatch):
    (folder / "my_loss.py").write_text(PRIME_RL)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    done = plugrad("train", "../run.toml", "--set", "loss.name=./my_loss.py:ppo_clip_loss", "--set", "max_steps=1")
    assert done.returncode == 0, done.stderr
    assert (folder / "elsewhere" / "runs" / "run" / "model" / "config.json").is_file()


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("loss.name=gpso", "PluginError: no loss is called 'gpso'"),
        ("loss.name=ppo_clp", "Did you mean 'ppo_clip' (plugrad 0.1.0)?"),
        ("loss.kwargs.clip_hgih=1", "OptionError: [loss] 'importance_sampling' (plugrad 0.1.0) has no option 'clip_hgih'"),
        ("loss.kwargs.kl_tau='x'", "the option 'kl_tau' is 'x', which is not float"),
        ("los.name=ppo_clip", "a run file has no key 'los'. Did you mean 'loss'?"),
        ("rollout.temprature=1", "[rollout] has no key 'temprature'. Did you mean 'temperature'?"),
        ("rollout.temperature=0", "rollout.temperature: Input should be greater than 0"),
        ("max_steps='many'", "max_steps: Input should be a valid integer"),
        ("loss.name=./nowhere.py:f", "names a file that does not exist"),
        ("loss.name=json:nothing", "json has no 'nothing'"),
        ("model.name=nowhere/at-all", "give either `name`"),
        ("loss.kwargs.teacher_tau=1.0", "needs teacher_logprobs, and the run file has no teacher"),
        ("advantage.name=group_normalized", None),
        ("rollout.max_new_tokens=2000", "the model's context has 1024 tokens: nothing is left for a prompt"),
        ("tokens_per_micro_batch=3", "tokens_per_micro_batch to at least 8"),
        ("updates_per_batch=3", "updates_per_batch = 3 does not divide"),
        ("max_steps", "write --set table.key=value"),
    ],
)
def test_bad_input_is_an_error_that_helps_and_exit_code_2(plugrad, folder, override, complaint):
    extra = () if complaint else ("--set", "rollout.rollouts_per_example=1")
    done = plugrad("train", "run.toml", "--set", override, *extra)
    assert done.returncode == 2, done.stdout + done.stderr
    assert (complaint or "needs at least 2 rollouts per example") in done.stderr
    assert "Traceback" not in done.stderr
    # The longest lists three examples.
    assert len(done.stderr.strip().splitlines()) <= 6


def test_a_run_file_that_is_not_there(plugrad):
    done = plugrad("train", "nothing.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no run file 'nothing.toml'" in done.stderr


def test_a_loss_that_raises_shows_its_own_traceback_and_none_of_ours(plugrad, folder):
    (folder / "bad.py").write_text("def bad(inputs):\n    return inputs.trainer_logprobs + inputs.nothing\n")
    done = plugrad("train", "run.toml", "--set", "loss.name=bad.py:bad")
    assert done.returncode == 2
    assert "bad.py" in done.stderr
    assert "line 2, in bad" in done.stderr
    assert "plugrad/host" not in done.stderr
    assert "raised AttributeError: 'BatchLossInputs'" in done.stderr or "raised AttributeError: 'LossInputs'" in done.stderr
    # Found before the model and the run folder were made.
    assert not (folder / "runs").exists()


def test_a_second_run_does_not_overwrite_the_first(plugrad, folder):
    assert plugrad("train", "run.toml", "--set", "max_steps=1").returncode == 0
    refused = plugrad("train", "run.toml", "--set", "max_steps=2")
    assert refused.returncode == 2
    assert "already holds a run" in refused.stderr
    assert len(records(folder / "runs" / "run")) == 1
    assert plugrad("train", "run.toml", "--set", "max_steps=2", "--overwrite").returncode == 0
    assert len(records(folder / "runs" / "run")) == 2


def test_a_folder_that_is_no_run_of_ours_is_never_replaced(plugrad, folder):
    before = (folder / "run.toml").read_text()
    done = plugrad("train", "run.toml", "--overwrite", "--set", "output_dir=.")
    assert done.returncode == 2
    assert "plugrad did not write it and does not replace it" in done.stderr
    assert (folder / "run.toml").read_text() == before
    empty = plugrad("train", "run.toml", "--overwrite", "--set", "output_dir=")
    assert empty.returncode == 2
    assert "output_dir: String should have at least 1 character" in empty.stderr
