"""TRL's trainer with plugrad's losses and advantages: what it computes is what plugrad's own step computes."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from recorded import EPS, LONGEST, LR, NUM_PROMPTS, PER_PROMPT, completions, our_updates
from transformers import TrainerCallback

from plugrad import OptionError, PluginError
from plugrad.testing import tiny_model, tiny_tokenizer

trl = pytest.importorskip("trl", reason="nox -s compat installs it")
datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


class Watching(TrainerCallback):
    """Keeps the loss and the gradient of each update."""

    def __init__(self):
        self.losses, self.gradients = [], []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients.append([parameter.grad.detach().clone() for parameter in model.parameters()])

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.losses.append(logs["loss"])


def trainer_of(folder, tmp_path, *, accumulation=1, rows=NUM_PROMPTS * PER_PROMPT, config=None, **plugins):
    from plugrad_compat.export.trl import GRPOTrainer

    tokenizer = tiny_tokenizer()
    recorded = completions(tokenizer)

    def rollout_func(prompts, trainer):
        chosen = [c for prompt in dict.fromkeys(prompts) for c in recorded if c.prompt == prompt]
        return {
            "prompt_ids": [c.prompt_ids for c in chosen],
            "completion_ids": [c.ids for c in chosen],
            "logprobs": None,
            "recorded_reward": [c.reward for c in chosen],
        }

    def reward(completions, recorded_reward, **kwargs):
        return recorded_reward

    settings = {
        "output_dir": str(tmp_path / "trl"),
        "max_steps": 2,
        "per_device_train_batch_size": rows // accumulation,
        "gradient_accumulation_steps": accumulation,
        "num_generations": PER_PROMPT,
        "max_completion_length": LONGEST,
        "model_init_kwargs": {"dtype": "float32"},
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "top_k": 0,
        "top_p": 1.0,
        "learning_rate": LR,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": EPS,
        "weight_decay": 0.0,
        "max_grad_norm": 0.0,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "beta": 0.0,
        "shuffle_dataset": False,
        **(config or {}),
    }
    prompts = list(dict.fromkeys(c.prompt for c in recorded))
    return GRPOTrainer(
        str(folder),
        args=trl.GRPOConfig(**settings),
        processing_class=tokenizer,
        reward_funcs=reward,
        train_dataset=datasets.Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        rollout_func=rollout_func,
        **plugins,
    )


def their_updates(*args, **kwargs):
    watching = Watching()
    trainer = trainer_of(*args, **kwargs)
    trainer.add_callback(watching)
    trainer.train()
    return watching.losses, watching.gradients, trainer


def assert_same_updates(found, wanted):
    (losses, gradients), (own_losses, own_gradients) = found, wanted
    assert len(losses) == len(gradients) == len(own_losses) == 2
    for loss, own in zip(losses, own_losses, strict=True):
        assert loss == pytest.approx(own, rel=1e-5, abs=1e-6)
    for step, own_step in zip(gradients, own_gradients, strict=True):
        largest = max(float(g.abs().max()) for g in own_step)
        assert largest > 1e-4
        for gradient, own in zip(step, own_step, strict=True):
            torch.testing.assert_close(gradient, own, rtol=1e-5, atol=1e-5 * largest)


CASES = {
    "gspo with rloo": {"loss": "gspo", "advantage": "rloo"},
    "dapo with grpo, an option": {"loss": "dapo", "advantage": "grpo", "options": {"clip_high": 0.3}},
    "dr_grpo": {"loss": "dr_grpo", "advantage": "group_mean"},
    "by group": {"loss": "ppo_clip", "advantage": "rloo", "reduction": "group"},
    "a bonus on the entropy": {"loss": "entropy_bonus", "advantage": "rloo"},
    "one of another author": {"loss": "plugrad-example/soft_clip", "advantage": "plugrad-example/group_quantile"},
}


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("case", CASES)
def test_two_steps_are_plugrads_own(folder, tmp_path, case, accumulation):
    chosen = dict(CASES[case])
    options = chosen.pop("options", {})
    losses, gradients, _ = their_updates(folder, tmp_path, accumulation=accumulation, loss_options=options, **chosen)
    wanted = our_updates(completions(tiny_tokenizer()), options=options, **chosen)
    assert_same_updates((losses, gradients), wanted)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(("loss", "options"), [("gspo", {"clip_low": 0.5, "clip_high": 0.5}), ("ppo_clip", {})])
def test_the_second_update_on_a_batch_sees_the_log_probs_of_before_the_first(folder, tmp_path, loss, options, accumulation):
    config, chosen = {"num_iterations": 2}, {"loss": loss, "advantage": "rloo"}
    losses, gradients, _ = their_updates(
        folder, tmp_path, accumulation=accumulation, config=config, loss_options=options, **chosen
    )
    wanted = our_updates(completions(tiny_tokenizer()), options=options, is_stale=True, **chosen)
    assert_same_updates((losses, gradients), wanted)


def test_two_ranks_take_the_updates_of_one(folder, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    worker = Path(__file__).with_name("trl_worker.py")
    done = subprocess.run(
        [*command, worker, folder, tmp_path], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    wanted = our_updates(completions(tiny_tokenizer()), "gspo", "rloo")
    found = [pickle.loads((tmp_path / f"{rank}.pickle").read_bytes()) for rank in range(2)]
    for _, gradients in found:
        assert_same_updates((wanted[0], gradients), wanted)
    # The main rank logs the loss of all.
    assert found[0][0] == pytest.approx(wanted[0], rel=1e-5, abs=1e-6)


def test_with_lora_only_the_adapters_train(folder, tmp_path):
    peft = pytest.importorskip("peft", reason="nox -s compat installs it")
    adapters = peft.LoraConfig(r=4, target_modules="all-linear")
    trainer = trainer_of(folder, tmp_path, loss="gspo", advantage="rloo", peft_config=adapters)
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    changed = {name for name, parameter in trainer.model.named_parameters() if not torch.equal(parameter, before[name])}
    # Two updates: the first moves only B, since the initial B = 0 leaves A without a gradient.
    assert changed == {name for name in before if "lora_" in name}


def test_evaluation_has_a_loss_too(folder, tmp_path):
    trainer = trainer_of(folder, tmp_path, config={"per_device_eval_batch_size": 8}, loss="ppo_clip", advantage="rloo")
    found = trainer.evaluate(eval_dataset=trainer.train_dataset)
    assert abs(found["eval_loss"]) < 10
    assert found["eval_ppo_clip/ratio"] == pytest.approx(1.0)


def test_several_updates_of_one_generation_have_their_own_counts(folder, tmp_path):
    """TRL shuffles the rows; over all updates of a generation, each row weighs as its own window says."""
    trainer = trainer_of(
        folder, tmp_path, accumulation=2, rows=4, config={"steps_per_generation": 4}, loss="ppo_clip", advantage="rloo"
    )
    trainer.train()
    buffered = trainer._buffered_inputs
    for window in (buffered[:2], buffered[2:]):
        tokens = sum(int(part["completion_mask"].sum()) for part in window)
        for part in window:
            torch.testing.assert_close(part["plugrad_weights"], torch.full_like(part["plugrad_weights"], 1 / tokens))


def test_a_loss_of_the_reference_takes_trls(folder, tmp_path):
    _, gradients, trainer = their_updates(
        folder, tmp_path, config={"beta": 0.1}, loss="plugrad-policy/kl_penalty", advantage="rloo"
    )
    assert trainer.state.global_step == 2
    wanted = our_updates(completions(tiny_tokenizer()), "plugrad-policy/kl_penalty", "rloo")
    # At the first step policy and reference are one: nothing pulls. At the second something does.
    for gradient, own in zip(gradients[1], wanted[1][1], strict=True):
        torch.testing.assert_close(gradient, own, rtol=1e-4, atol=1e-6)


def test_without_an_advantage_trls_stays(folder, tmp_path):
    trainer = trainer_of(folder, tmp_path, loss="ppo_clip", config={"scale_rewards": "none"})
    trainer.train()
    rewards = trainer._buffered_inputs[0]["plugrad_rewards"]
    advantages = trainer._buffered_inputs[0]["advantages"]
    assert advantages.shape == rewards.shape
    assert abs(float(advantages.sum())) < 1e-5


def test_its_metrics_are_logged(folder, tmp_path):
    _, _, trainer = their_updates(folder, tmp_path, loss="ppo_clip", advantage="rloo")
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert {"ppo_clip/clip_fraction", "ppo_clip/ratio", "entropy", "reward"} <= logged[0].keys()
    assert logged[0]["ppo_clip/ratio"] == pytest.approx(1.0)


def test_a_loss_sees_the_step_and_the_groups(folder, tmp_path):
    path = tmp_path / "scheduled.py"
    path.write_text(
        "from plugrad import BatchLossInputs, LossOutputs\n\n\n"
        "def scheduled(inputs: BatchLossInputs) -> LossOutputs:\n"
        "    weight = 1 - inputs.step / inputs.max_steps\n"
        "    metrics = {'weight': weight, 'groups': float(len(inputs.group_ids.unique()))}\n"
        "    return LossOutputs(-weight * inputs.advantages * inputs.trainer_logprobs, metrics)\n"
    )
    _, _, trainer = their_updates(folder, tmp_path, loss=f"{path}:scheduled", advantage="rloo")
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry[f"{path}:scheduled/weight"] for entry in logged] == [1.0, 0.5]
    assert [entry[f"{path}:scheduled/groups"] for entry in logged] == [NUM_PROMPTS, NUM_PROMPTS]


@pytest.mark.parametrize(
    ("plugins", "config", "error", "complaint"),
    [
        ({"loss": "gpso"}, {}, PluginError, "no loss is called 'gpso'. Did you mean 'gspo'"),
        (
            {"loss": "gspo", "loss_options": {"clip_hihg": 1.0}},
            {},
            OptionError,
            "no option 'clip_hihg'. Did you mean 'clip_high'",
        ),
        ({"loss": "gspo", "advantage": "roo"}, {}, PluginError, "no advantage is called 'roo'"),
        ({"loss": "gspo"}, {"beta": 0.1}, OptionError, "beta = 0.1 belongs to TRL's own loss"),
        ({"loss": "kl_to_reference"}, {}, OptionError, r"needs ref_logprobs\. Set beta"),
        (
            {"loss": "plugrad-policy/reference_kl", "loss_options": {"towards": "teacher"}},
            {},
            PluginError,
            "needs teacher_logprobs",
        ),
        (
            {"loss": "gspo"},
            {"top_entropy_quantile": 0.2},
            OptionError,
            "top_entropy_quantile = 0.2 belongs to TRL's own",
        ),
        ({"loss": "gspo"}, {"epsilon": 0.3}, OptionError, "epsilon = 0.3 belongs to TRL's own loss.*See loss_options="),
        (
            {"loss": "gspo"},
            {"loss_type": "dr_grpo"},
            OptionError,
            "loss_type = dr_grpo belongs to TRL's own loss.*See loss=, and",
        ),
        (
            {"loss": "gspo", "advantage": "rloo"},
            {"scale_rewards": "none"},
            OptionError,
            "scale_rewards = none belongs to TRL's own advantage.*See advantage=",
        ),
        ({"loss": "gspo", "reduction": "tokens"}, {}, OptionError, "no reduction 'tokens'"),
        ({"loss": "gspo"}, {"gradient_accumulation_steps": 2, "steps_per_generation": 1}, OptionError, "not a multiple of"),
    ],
)
def test_what_cannot_be_is_refused(folder, tmp_path, plugins, config, error, complaint):
    with pytest.raises(error, match=complaint):
        trainer_of(folder, tmp_path, config=config, **plugins)
