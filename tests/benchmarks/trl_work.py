"""TRL's side of a comparison: its GRPOTrainer with the same settings, which reports each step when it is done."""

import os
import warnings
from collections import defaultdict
from typing import Any

from datasets import Dataset
from experiment import OPTIMIZER, Experiment, sums
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from turns import Turns

from plugrad.policy.loading import quiet_transformers


class Reporting(TrainerCallback):
    """Reports each step and waits for the next turn."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def on_log(self, args: Any, state: Any, control: Any, **details: Any) -> None:
        """Report what is compared; the trainer's last line has no loss."""
        logs: dict[str, float] = details["logs"]
        if "loss" in logs:
            named = {"loss": "loss", "grad_norm": "grad_norm", "length": "completions/mean_length"}
            self._turns.step_done({name: logs[column] for name, column in named.items()})


def trl_work(experiment: Experiment, turns: Turns) -> None:
    """Train on the experiment's batches."""
    quiet_transformers()
    warnings.simplefilter("ignore", FutureWarning)
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    tokenizer = AutoTokenizer.from_pretrained(experiment.model)
    parts = _replaying(experiment, tokenizer) if experiment.is_recorded else _sampling()
    trainer = GRPOTrainer(
        str(experiment.model),
        args=_config(experiment),
        processing_class=tokenizer,
        callbacks=[Reporting(turns)],
        **parts,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def _config(experiment: Experiment) -> GRPOConfig:
    table = OPTIMIZER
    return GRPOConfig(
        output_dir=str(experiment.folder / "trl"),
        max_steps=experiment.num_steps,
        # A batch of completions is one update, cut into as many micro-batches as the token budget asks for.
        per_device_train_batch_size=experiment.rows_per_micro_batch,
        gradient_accumulation_steps=experiment.num_completions // experiment.rows_per_micro_batch,
        num_generations=experiment.completions_per_prompt,
        max_completion_length=experiment.max_new_tokens,
        model_init_kwargs={"dtype": "float32"},
        bf16=False,
        gradient_checkpointing=False,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        loss_type="dapo",
        scale_rewards="none",
        beta=0.0,
        learning_rate=table["lr"],
        adam_beta1=table["betas"][0],
        adam_beta2=table["betas"][1],
        adam_epsilon=table["eps"],
        weight_decay=table["weight_decay"],
        max_grad_norm=table["max_grad_norm"],
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def _sampling() -> dict[str, Any]:
    def reward(completions: list[str], reference: list[str], **unused: Any) -> list[float]:
        return [float(completion == right) for completion, right in zip(completions, reference, strict=True)]

    return {"reward_funcs": reward, "train_dataset": Dataset.from_list(sums())}


def _replaying(experiment: Experiment, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """TRL's own way to bring completions from elsewhere: `rollout_func`."""
    of_prompt = defaultdict(list)
    for line in experiment.recorded():
        of_prompt[line["prompt"]].append(line)

    def rollout_func(prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        # The trainer repeats each prompt, and the repetitions lie beside each other.
        lines = [line for prompt in dict.fromkeys(prompts) for line in of_prompt[prompt]]
        return {
            "prompt_ids": tokenizer([line["prompt"] for line in lines])["input_ids"],
            "completion_ids": [
                [*ids, tokenizer.eos_token_id] for ids in tokenizer([line["reference"] for line in lines])["input_ids"]
            ],
            "logprobs": None,
            "recorded_reward": [line["reward"] for line in lines],
        }

    def reward(completions: list[str], recorded_reward: list[float], **unused: Any) -> list[float]:
        return recorded_reward

    prompts = [{"prompt": prompt} for prompt in of_prompt]
    return {"reward_funcs": reward, "train_dataset": Dataset.from_list(prompts), "rollout_func": rollout_func}
