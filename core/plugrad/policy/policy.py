"""The policy as a module from token ids to log-probs, so that DDP and FSDP wrap its whole forward pass."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from plugrad.errors import ModelError
from plugrad.formulas.ratios import at_least_float32
from plugrad.policy.adapter_layers import adapter_dropouts, dropping_out, without_dropout
from plugrad.policy.compiled import compiled_layers
from plugrad.policy.critic import Critic
from plugrad.policy.experts import run_experts_in_float64
from plugrad.policy.handed_out import HandedOut, by_key, handed_out
from plugrad.policy.lm_head import backbone, find_head
from plugrad.policy.neighbours import keeps_rows_apart
from plugrad.policy.outputs import Outputs
from plugrad.policy.packing import can_pack
from plugrad.policy.passes import Pass
from plugrad.policy.routers import expert_counts
from plugrad.policy.scored import Rows, Scored, Wanted, at_counted, joined, of_rows
from plugrad.policy.shifts import Shift, shifted
from plugrad.policy.teachers import Taught, TeacherStates
from plugrad.policy.training_mode import keep_evaluating, noisy_modules

logger = logging.getLogger("plugrad")

LOGPROBS = Wanted()


class Policy(nn.Module):
    """A causal LM that scores the counted tokens of a micro-batch at the temperature that samples them."""

    def __init__(
        self,
        model: nn.Module,
        temperature: float,
        packs: bool | None = None,
        critic: Critic | None = None,
        trained: Sequence[HandedOut] = (),
        compiled: bool = False,
    ) -> None:
        """Find out by trial runs how the model computes, and unless `packs` is given, whether it can pack sequences.

        A critic and the parameters of losses are trained beside the model: one module, so that what wraps it sees all.
        With `compiled`, `torch.compile` compiles the model's layers for these passes alone: who samples from the model or
        saves it sees it as it is.

        Raises:
            ModelError: the model is not a causal LM, or is to be compiled and runs as a whole.
        """
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.sum_as_loaded: str | None = None  # Of a frozen model whose weights have been rounded since.
        run_experts_in_float64(model)
        self.head = find_head(model)
        self.outputs = Outputs(model, self.head, temperature)
        self.rows_alone = not keeps_rows_apart(model)
        self.packs = not self.rows_alone and (can_pack(model) if packs is None else packs)
        self.critic = critic
        self.trained = by_key(trained)
        config: Any = getattr(model, "config", None)
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        self.top_k = int(getattr(text, "num_experts_per_tok", None) or 0)
        self.counts_experts = bool(getattr(text, "output_router_logits", False) and self.top_k)
        self.expert_counts: Tensor | None = None
        trains = any(parameter.requires_grad for parameter in model.parameters())
        # Theirs is wanted, in passes with gradient: they are turned on for these.
        dropouts = adapter_dropouts(model)
        self._dropouts = list(dropouts.values())
        self._layers = compiled_layers(model, self.head) if compiled else None
        with without_dropout(self._dropouts):
            noisy = noisy_modules(model) if trains else {}
        self.noisy = frozenset({*noisy, *dropouts})
        _say_what_is_noisy(noisy)
        keep_evaluating(model, self.noisy)

    def train(self, mode: bool = True) -> Policy:
        """Set the training mode, but keep evaluating what is noisy in it: the policy in training is the one that sampled."""
        super().train(mode)
        keep_evaluating(self.model, self.noisy)
        return self

    @contextmanager
    def at_temperature(self, temperature: float) -> Iterator[None]:
        """Score tokens at another temperature in the body."""
        before = self.temperature, self.outputs
        self.temperature, self.outputs = temperature, Outputs(self.model, self.head, temperature)
        try:
            yield
        finally:
            self.temperature, self.outputs = before

    @property
    def drops_out(self) -> bool:
        """Whether passes with gradient drop activations out, which makes their log-probs others than those of scoring."""
        return bool(self._dropouts)

    @property
    def is_compiled(self) -> bool:
        """Whether `torch.compile` has its layers."""
        return self._layers is not None

    @property
    def _no_split_modules(self) -> Any:
        # Accelerate's FSDP wraps the layers that the root module names, and the policy is the root.
        own = getattr(self.model, "_no_split_modules", None)
        if self.critic is None and not self.trained:
            return own
        # Their dtype may be another than the model's, and FSDP wants one in each unit.
        beside = {type(part).__name__ for part in self.trained.values()}
        if self.critic is not None:
            beside |= {*(getattr(self.critic.model, "_no_split_modules", None) or ()), type(self.critic.head).__name__}
        return [*(own or ()), *sorted(beside)]

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Bool[Tensor, "batch seq"],
        counted: Bool[Tensor, "batch seq"],
        wanted: Wanted = LOGPROBS,
        teachers: Sequence[TeacherStates] = (),
        shift: Shift | None = None,
    ) -> Scored:
        """Return the log-prob of each counted token given the tokens before it, and what else is wanted.

        The head runs only where `counted` is True. The first token of a row has no context and never counts.
        """
        batch = Rows(input_ids, attention_mask, counted, None if shift is None else shift.by)
        run = self._one_by_one if self.rows_alone else self._of_rows
        with dropping_out(self._dropouts, drops=self.training and torch.is_grad_enabled()):
            scored = run(batch, wanted, teachers)
        if shift is not None and shift.earlier is not None:
            scored = scored._replace(logprobs=scored.logprobs + shift.earlier)
        return scored._replace(parameters=handed_out(self.trained)) if wanted.parameters else scored

    def _one_by_one(self, batch: Rows, wanted: Wanted, teachers: Sequence[TeacherStates]) -> Scored:
        taught = Taught(teachers, batch.counted)
        parts = [self._of_rows(part, wanted, taught.of_row(row)) for row, part in enumerate(batch.one_by_one())]
        return joined(parts, batch.input_ids.shape[1])

    def _of_rows(self, rows: Rows, wanted: Wanted, teachers: Sequence[TeacherStates]) -> Scored:
        """Run the model once on all the rows."""
        given, counted = Pass.of(rows, packs=self.packs), rows.counted
        targets = rows.input_ids[:, 1:][counted[:, 1:]]
        found = states = hidden = values = last_value = None
        with shifted(self.model, given.shift):
            if self.head is None:
                found = self._own_logits(given.inputs, given.predicts)
            else:
                states = self._hidden(given.inputs, None if wanted.further else given.routed)
                hidden = states[given.predicts]
                found = self.outputs.logits(hidden) if wanted.logits else None
        scores = self.outputs.scores(hidden, found, targets, wanted, Taught(teachers, counted))
        if wanted.values and self.critic is not None:
            values, last_value = self._values(rows, states, given)
        return Scored(
            logprobs=at_counted(scores.logprobs, counted),
            entropy=None if scores.entropy is None else at_counted(scores.entropy, counted),
            logits=at_counted(found, counted) if found is not None and wanted.logits else None,
            hidden_states=at_counted(self._given(states, given.predicts), counted) if wanted.hidden_states else None,
            embedding=of_rows(self._given(states, given.ends), counted) if wanted.embedding else None,
            values=values,
            last_value=last_value,
            divergences=tuple(at_counted(divergence, counted) for divergence in scores.divergences),
        )

    @torch.no_grad()
    def as_teacher(self, rows: Rows, taught: Bool[Tensor, "batch"]) -> TeacherStates:
        """Return what the divergence of another policy from this one follows from.

        Args:
            rows: what this one reads.
            taught: True at the rows of the other's micro-batch that these are, in the same order.
        """
        passes = [Pass.of(part, packs=self.packs) for part in (rows.one_by_one() if self.rows_alone else [rows])]
        if self.head is None:
            found = [self._own_logits(given.inputs, given.predicts) * self.temperature for given in passes]
            return TeacherStates(taught, logits=torch.cat(found))
        states = [self._hidden(given.inputs, given.routed)[given.predicts] for given in passes]
        return TeacherStates(taught, torch.cat(states), self.outputs.source)

    def _values(
        self, rows: Rows, states: Tensor | None, given: Pass
    ) -> tuple[Float[Tensor, "batch seq"], Float[Tensor, "batch"]]:
        assert self.critic is not None
        if self.critic.model is not None:
            of_own_model: tuple[Tensor, Tensor] = self.critic(rows)
            return of_own_model
        return self.critic.of_states(self._given(states, given.predicts), self._given(states, given.ends), rows)

    def check_gives(self, wanted: Wanted) -> None:
        """Check that the model's last hidden states are known if they are wanted.

        Raises:
            ModelError: they are not.
        """
        if self.head is not None:
            return
        alone = (
            f"{type(self.model).__name__} turns its last hidden states into logits in its own way, so plugrad runs it as a "
            "whole and does not see them."
        )
        if wanted.states:
            raise ModelError(
                f"{alone} A loss that needs hidden_states or embedding cannot be used with it: choose another model or "
                "another loss."
            )
        if wanted.values and self.critic is not None and self.critic.model is None:
            raise ModelError(
                f"{alone} A critic cannot read them either. Give it a model of its own: "
                'name = "a hub id or folder" under [critic].'
            )

    def _given(self, states: Tensor | None, places: Bool[Tensor, "..."]) -> Float[Tensor, "places hidden"]:
        assert states is not None, "check_gives comes first"
        return at_least_float32(states[places])

    def _hidden(self, inputs: dict[str, Any], routed: Bool[Tensor, "..."] | None) -> Float[Tensor, "batch seq hidden"]:
        """Return the last hidden states. In a pass with gradient, add up how many of the routed tokens each expert gets."""
        outputs = (self._layers or backbone(self.model))(**inputs)
        routers = getattr(outputs, "router_logits", None)
        if self.counts_experts and routed is not None and torch.is_grad_enabled() and isinstance(routers, tuple):
            found = expert_counts(routers, routed, self.top_k)
            self.expert_counts = found if self.expert_counts is None else self.expert_counts + found
        hidden: Tensor = outputs[0]
        return hidden

    def _own_logits(self, inputs: dict[str, Any], chosen: Bool[Tensor, "batch seq"]) -> Float[Tensor, "tokens vocab"]:
        """Return the model's own logits at the chosen positions, divided by the temperature, in float32 at least."""
        found: Tensor = self.model(**inputs).logits[chosen]
        return at_least_float32(found) / self.temperature


def _say_what_is_noisy(noisy: Mapping[str, nn.Module]) -> None:
    if not noisy:
        return
    names = ", ".join(sorted({type(module).__name__ for module in noisy.values()}))
    logger.info(
        "The model's %s: in training mode it draws random numbers or gives other log-probs than in evaluation mode, which "
        "samples. It stays in evaluation mode, and is trained all the same.",
        names,
    )
    if any(getattr(module, "gradient_checkpointing", False) for module in noisy.values()):
        logger.warning(
            "Gradient checkpointing saves no memory in the model's %s: it needs training mode, in which these would "
            "give other log-probs than what samples. Set the dropout in the model's configuration to 0.",
            names,
        )
