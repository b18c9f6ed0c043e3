"""TRL's GRPOTrainer with a plugrad loss and advantage: `GRPOTrainer(..., loss="gspo", advantage="rloo")`.

Everything else is TRL's: generation, reward functions, the optimizer, logging. What it divides by is plugrad's: the counts
of the whole optimizer batch, over micro-batches and processes, taken before the first of them.
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
"""Settings of TRL's own loss and advantage, which do nothing where plugrad's take their place: what does what they did."""
DEFAULTS = {field.name: field.default for field in fields(trl.GRPOConfig)}
WEIGHTS, REWARDS = "plugrad_weights", "plugrad_rewards"
GROUP_LENGTHS, GROUP_IDS = "plugrad_group_lengths", "plugrad_group_ids"


class GRPOTrainer(trl.GRPOTrainer):
    """TRL's trainer, which a plugrad loss and, if one is named, a plugrad advantage take over.

    Args:
        loss: a plugrad loss by name.
        advantage: a plugrad advantage by name; by default the advantages are TRL's.
        loss_options: the loss's own.
        advantage_options: the advantage's own.
        reduction: what divides; by default what the loss declares.
        given: what TRL's trainer takes.

    Raises:
        PluginError: a plugin is not installed, or needs what TRL does not give.
        OptionError: it does not take these options, or a setting of TRL's cannot be combined with it.
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
        # Of all processes, one column per reward function; NaN where a function had nothing to say.
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
        output[REWARDS] = rewards[own].to(mask.device)
        output[GROUP_LENGTHS] = grouped[own].to(output[REWARDS])
        output[GROUP_IDS] = torch.arange(len(lengths), device=mask.device)[own] // per_group
        if self._plugrad_advantage is not None:
            advantages = self._advantages(rewards, unscorable, lengths, per_group, mask.shape[1])
            output["advantages"] = advantages[own].to(output["advantages"])
        return output

    def _total_rewards(self, per_group: int) -> tuple[Tensor, Tensor]:
        """Return the weighted rewards of all processes, and which completions no function has scored.

        Those get the mean of their group's others: no advantage over it.
        """
        by_function = self._plugrad_rewards
        rewards = (by_function * self.reward_weights.to(by_function.device)).nansum(dim=1)
        unscorable = by_function.isnan().all(dim=1)
        groups = rewards.masked_fill(unscorable, torch.nan).view(-1, per_group)
        means = groups.nanmean(dim=1, keepdim=True).nan_to_num(0.0).expand_as(groups)
        return torch.where(groups.isnan(), means, groups).flatten(), unscorable

    def _advantages(self, rewards: Tensor, unscorable: Tensor, lengths: Tensor, per_group: int, width: int) -> Tensor:
        assert self._plugrad_advantage is not None
        inputs = AdvantageInputs(
            rewards=rewards.double().cpu().view(-1, per_group), completion_lengths=lengths.cpu().view(-1, per_group)
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
        """Give each row of an optimizer batch its weight in it."""
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
        # DDP averages over processes where the objective sums. Accumulation sums already.
        total: Tensor = (inputs[WEIGHTS] * rows.sums).sum() * self.accelerator.num_processes
        return total

    def _loss_inputs(self, logprobs: Tensor, entropy: Tensor, inputs: dict[str, Any]) -> BatchLossInputs:
        mask = _loss_mask(inputs).bool()
        own = logprobs.detach()
        # TRL leaves the old ones out where nothing has been updated since.
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
            # What the engine could not score is taken to be as the policy scored it before.
            inference_logprobs=_finite(old if sampled is None else torch.where(sampled.isnan(), old, sampled), mask),
            advantages=_finite(wide.to(logprobs), mask),
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
        """Raise OptionError for settings of TRL's own loss, and for those under which the counts would not be exact."""
        args, name = self.args, self._plugrad_loss.name
        self._refuse("loss", OF_ITS_LOSS)
        if self._plugrad_advantage is not None:
            self._refuse("advantage", OF_ITS_ADVANTAGE)
        if args.use_vllm and args.vllm_importance_sampling_correction:
            raise OptionError(
                "vllm_importance_sampling_correction is of TRL's own loss: set it to False. The engine's log-probs are the "
                f"loss's inference_logprobs; {name!r} corrects for them if it reads them, as 'importance_sampling' does."
            )
        if self.aux_loss_enabled:
            raise OptionError("router_aux_loss_coef adds a term that plugrad's loss does not have: set it to 0.")
        needs_reference = "ref_logprobs" in self._plugrad_loss.loss.needs
        if needs_reference != (args.beta != 0.0):
            raise OptionError(
                f"loss={name!r} needs ref_logprobs: set beta to any number but 0, so that TRL loads a reference."
                if needs_reference
                else f"beta = {args.beta} is of TRL's own loss, and loss={name!r} takes its place: see 'kl_penalty'."
            )
        if args.steps_per_generation % args.gradient_accumulation_steps:
            raise OptionError(
                f"steps_per_generation = {args.steps_per_generation} is no multiple of gradient_accumulation_steps = "
                f"{args.gradient_accumulation_steps}: an update would be of two generations, whose counts are not known at "
                "its first micro-batch."
            )
        if self._plugrad_reduction == "group" and args.steps_per_generation != args.gradient_accumulation_steps:
            raise OptionError(
                "reduction='group' needs whole groups in an update: steps_per_generation as many as accumulated."
            )
        if self._plugrad_reduction not in REDUCTIONS:
            raise OptionError(f"there is no reduction {self._plugrad_reduction!r}: there are {', '.join(REDUCTIONS)}.")

    def _refuse(self, what: str, settings: Mapping[str, str]) -> None:
        for setting, ours in settings.items():
            found = getattr(self.args, setting, None)
            if found not in (DEFAULTS.get(setting), None):
                raise OptionError(f"{setting} = {found} is of TRL's own {what}, and plugrad's takes its place: see {ours}.")


def _loss_mask(inputs: Mapping[str, Any]) -> Tensor:
    mask: Tensor = inputs["completion_mask"]
    return mask * inputs["tool_mask"] if "tool_mask" in inputs else mask


def _finite(values: Tensor, mask: Tensor) -> Tensor:
    """Return the values with 0 in place of what does not count."""
    return torch.where(mask, values, 0.0)
