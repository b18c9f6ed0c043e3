"""TRL's GRPOTrainer with a plugrad loss and advantage: `GRPOTrainer(..., loss="gspo", advantage="rloo")`.

Generation, reward functions, optimizer and logging stay TRL's. The denominators are plugrad's: counts over the whole
optimizer batch, all its micro-batches and processes, taken before the first micro-batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
import trl
from torch import Tensor

from plugrad import AdvantageInputs, BatchLossInputs, OptionError
from plugrad_compat.export.named import NamedLoss, named_advantage
from plugrad_compat.export.weights import Counts, sequence_weights

GIVES = frozenset({"old_logprobs", "ref_logprobs", "entropy", "input_ids", "reward"})
REDUCTIONS = ("token", "sequence", "sequence_sum", "constant", "group")
OF_ITS_LOSS = {
    "loss_type": "loss=, and reduction=",
    "importance_sampling_level": "loss=, for one 'gspo'",
    **dict.fromkeys(("epsilon", "epsilon_high", "delta"), "loss_options="),
    **dict.fromkeys(("sapo_temperature_neg", "sapo_temperature_pos"), "the loss 'sapo'"),
    **dict.fromkeys(("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"), "the loss 'vespo'"),
    "top_entropy_quantile": "the loss 'top_entropy_quantile'",
    "off_policy_mask_threshold": "the loss 'opsm'",
    **dict.fromkeys(("entropy_coef", "use_adaptive_entropy"), "the loss 'entropy_bonus'"),
}
OF_ITS_ADVANTAGE = {"scale_rewards": "advantage=", "multi_objective_aggregation": "advantage=, for one 'gdpo'"}
"""Settings of TRL's own loss and advantage that have no effect here, each with its plugrad replacement."""
DEFAULTS = {field.name: field.default for field in fields(trl.GRPOConfig)}
WEIGHTS, REWARDS = "plugrad_weights", "plugrad_rewards"
GROUP_LENGTHS, GROUP_IDS = "plugrad_group_lengths", "plugrad_group_ids"


class GRPOTrainer(trl.GRPOTrainer):
    """TRL's trainer with a plugrad loss and, optionally, a plugrad advantage.

    Args:
        loss: the name of a plugrad loss.
        advantage: the name of a plugrad advantage; by default TRL computes the advantages.
        loss_options: the options of the loss.
        advantage_options: the options of the advantage.
        reduction: the reduction; by default the loss's own.
        given: positional arguments of TRL's trainer.

    Raises:
        PluginError: a plugin is not installed, or needs something that TRL does not provide.
        OptionError: a plugin does not take these options, or a setting of TRL's cannot be combined with it.
    """

    def __init__(
        self,
        *given: Any,
        loss: str,
        advantage: str | None = None,
        loss_options: Mapping[str, Any] | None = None,
        advantage_options: Mapping[str, Any] | None = None,
        reduction: str | None = None,
        **named: Any,
    ) -> None:
        self._plugrad_loss = NamedLoss(loss, dict(loss_options or {}), "TRL's GRPOTrainer", GIVES)
        self._plugrad_reduction = reduction or self._plugrad_loss.loss.reduction
        self._plugrad_advantage = named_advantage(advantage, dict(advantage_options or {})) if advantage else None
        super().__init__(*given, **named)
        self._refuse_what_does_nothing()

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        # From all processes, one column per reward function. NaN means that a function gave no reward.
        rewards: Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self._plugrad_rewards = rewards
        return rewards

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        mask = _loss_mask(output)
        lengths = self.accelerator.gather(mask.sum(dim=1))
        per_group = self.num_generations if self.model.training else self.num_generations_eval
        rewards, unscorable = self._total_rewards(per_group)
        own = slice(self.accelerator.process_index * len(mask), (self.accelerator.process_index + 1) * len(mask))
        grouped = lengths.view(-1, per_group).sum(dim=1).repeat_interleave(per_group)
        output[REWARDS] = rewards[own].to(self._plugrad_rewards.dtype).to(mask.device)
        output[GROUP_LENGTHS] = grouped[own].to(output[REWARDS])
        output[GROUP_IDS] = torch.arange(len(lengths), device=mask.device)[own] // per_group
        if self._plugrad_advantage is not None:
            advantages = self._advantages(rewards, unscorable, lengths, per_group, mask.shape[1])
            output["advantages"] = advantages[own].to(output["advantages"])
        return output

    def _total_rewards(self, per_group: int) -> tuple[Tensor, Tensor]:
        """Return the weighted rewards of all processes, and which completions no function has scored.

        Unscored completions get the mean of their group's others, and so no advantage over it.
        """
        # In float32 the sums of equal rewards differ.
        by_function = self._plugrad_rewards.double()
        rewards = (by_function * self.reward_weights.to(by_function.device)).nansum(dim=1)
        unscorable = by_function.isnan().all(dim=1)
        groups = rewards.masked_fill(unscorable, torch.nan).view(-1, per_group)
        means = groups.nanmean(dim=1, keepdim=True).nan_to_num(0.0).expand_as(groups)
        return torch.where(groups.isnan(), means, groups).flatten(), unscorable

    def _advantages(self, rewards: Tensor, unscorable: Tensor, lengths: Tensor, per_group: int, width: int) -> Tensor:
        assert self._plugrad_advantage is not None
        inputs = AdvantageInputs(
            rewards=rewards.cpu().view(-1, per_group), completion_lengths=lengths.cpu().view(-1, per_group)
        )
        found = self._plugrad_advantage(inputs).advantages
        if isinstance(found, Tensor):
            advantages = found.flatten()
            return advantages.masked_fill(unscorable.cpu(), 0.0)
        rows = [torch.nn.functional.pad(tokens, (0, width - len(tokens))) for group in found for tokens in group]
        return torch.stack(rows).masked_fill(unscorable.cpu().unsqueeze(1), 0.0)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        inputs: dict[str, Any] = super()._prepare_inputs(generation_batch)
        if WEIGHTS not in inputs:
            buffered = self._buffered_inputs if self.model.training else [inputs]
            window = self.args.gradient_accumulation_steps if self.model.training else 1
            for start in range(0, len(buffered), window):
                self._weigh(buffered[start : start + window])
        return inputs

    def _weigh(self, micro_batches: Sequence[dict[str, Any]]) -> None:
        """Set the weight of each row in its optimizer batch."""
        masks = [_loss_mask(micro_batch) for micro_batch in micro_batches]
        own = torch.tensor([[sum(int(mask.sum()) for mask in masks), sum(map(len, masks))]], device=masks[0].device)
        tokens, sequences = self.accelerator.gather(own).sum(dim=0).tolist()
        per_group = self.num_generations if self.model.training else self.num_generations_eval
        counts = Counts(tokens, sequences, sequences / per_group, self.max_completion_length)
        for micro_batch, mask in zip(micro_batches, masks, strict=True):
            weights = sequence_weights(self._plugrad_reduction, mask.sum(dim=1), micro_batch[GROUP_LENGTHS], counts)
            micro_batch[WEIGHTS] = weights

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        completion_ids, completion_mask = inputs["completion_ids"], inputs["completion_mask"]
        input_ids = torch.cat([inputs["prompt_ids"], completion_ids], dim=1)
        attention_mask = torch.cat([inputs["prompt_mask"], completion_mask], dim=1)
        logprobs, entropy, _ = self._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, completion_ids.shape[1], compute_entropy=True
        )
        rows = self._plugrad_loss.rows(self._loss_inputs(logprobs, entropy, inputs))
        self._log(rows.metrics, entropy, _loss_mask(inputs))
        # DDP averages over processes, but the objective sums. Accumulation already sums.
        total: Tensor = (inputs[WEIGHTS] * rows.sums).sum() * self.accelerator.num_processes
        return total

    def _loss_inputs(self, logprobs: Tensor, entropy: Tensor, inputs: dict[str, Any]) -> BatchLossInputs:
        mask = _loss_mask(inputs).bool()
        own = logprobs.detach()
        # TRL leaves out the old log-probs if there was no update since.
        old = inputs["old_per_token_logps"] if inputs.get("old_per_token_logps") is not None else own
        sampled = inputs.get("sampling_per_token_logps")
        advantages = inputs["advantages"]
        wide = advantages.unsqueeze(1).expand(mask.shape) if advantages.ndim == 1 else advantages
        optional = {
            "old_logprobs": old,
            "ref_logprobs": inputs.get("ref_per_token_logps"),
            "entropy": entropy,
            "input_ids": inputs["completion_ids"],
            "reward": inputs[REWARDS],
        }
        return BatchLossInputs(
            trainer_logprobs=logprobs,
            # Tokens that the engine could not score get the old policy's log-probs.
            inference_logprobs=_finite(old if sampled is None else torch.where(sampled.isnan(), old, sampled), mask),
            advantages=_finite(wide, mask),
            loss_mask=mask,
            **{name: optional[name] for name in sorted(self._plugrad_loss.loss.needs)},
            group_ids=inputs[GROUP_IDS],
            step=self.state.global_step,
            max_steps=self.state.max_steps,
        )

    def _log(self, metrics: Mapping[str, float], entropy: Tensor, mask: Tensor) -> None:
        mode = "train" if self.model.training else "eval"
        totals = torch.stack([(entropy.detach() * mask).sum(), mask.sum().to(entropy)])
        summed, counted = self.accelerator.reduce(totals, reduction="sum").tolist()
        self._metrics[mode]["entropy"].append(summed / max(counted, 1.0))
        for name, value in metrics.items():
            self._metrics[mode][f"{self._plugrad_loss.name}/{name}"].append(value)

    def _refuse_what_does_nothing(self) -> None:
        """Raise OptionError for settings of TRL's own loss, and for settings that would make the counts inexact."""
        args, name = self.args, self._plugrad_loss.name
        self._refuse("loss", OF_ITS_LOSS)
        if self._plugrad_advantage is not None:
            self._refuse("advantage", OF_ITS_ADVANTAGE)
        if args.use_vllm and args.vllm_importance_sampling_correction:
            raise OptionError(
                "vllm_importance_sampling_correction belongs to TRL's own loss. Set it to False. plugrad's loss gets the "
                f"engine's log-probs as inference_logprobs. {name!r} corrects for them if it reads them, as "
                "'importance_sampling' does."
            )
        if self.aux_loss_enabled:
            raise OptionError("router_aux_loss_coef adds a term that plugrad's loss does not have. Set it to 0.")
        needs_reference = "ref_logprobs" in self._plugrad_loss.loss.needs
        if needs_reference != (args.beta != 0.0):
            raise OptionError(
                f"loss={name!r} needs ref_logprobs. Set beta to any number but 0, so that TRL loads a reference."
                if needs_reference
                else f"beta = {args.beta} belongs to TRL's own loss, which loss={name!r} replaces. See 'kl_penalty'."
            )
        if args.steps_per_generation % args.gradient_accumulation_steps:
            raise OptionError(
                f"steps_per_generation = {args.steps_per_generation} is not a multiple of gradient_accumulation_steps = "
                f"{args.gradient_accumulation_steps}. An update would span two generations, whose counts are not known at "
                "its first micro-batch."
            )
        if self._plugrad_reduction == "group" and args.steps_per_generation != args.gradient_accumulation_steps:
            raise OptionError(
                "reduction='group' needs whole groups in an update: set steps_per_generation to gradient_accumulation_steps."
            )
        if self._plugrad_reduction not in REDUCTIONS:
            raise OptionError(f"there is no reduction {self._plugrad_reduction!r}. There are {', '.join(REDUCTIONS)}.")

    def _refuse(self, what: str, settings: Mapping[str, str]) -> None:
        for setting, ours in settings.items():
            found = getattr(self.args, setting, None)
            if found not in (DEFAULTS.get(setting), None):
                raise OptionError(f"{setting} = {found} belongs to TRL's own {what}, which plugrad's replaces. See {ours}.")


def _loss_mask(inputs: Mapping[str, Any]) -> Tensor:
    mask: Tensor = inputs["completion_mask"]
    return mask * inputs["tool_mask"] if "tool_mask" in inputs else mask


def _finite(values: Tensor, mask: Tensor) -> Tensor:
    """Return the values with 0 outside the mask."""
    return torch.where(mask, values, 0.0)
