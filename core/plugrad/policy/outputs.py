"""From a model's last hidden states, or its logits, to scores of tokens, and to its divergence from its teachers."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from plugrad.policy.blocks import EntropyMode
from plugrad.policy.divergences import ComparedScores, compared_scores, compared_scores_from_logits, teacher_logits_of
from plugrad.policy.lm_head import LinearHead
from plugrad.policy.logprobs import logits_of, scores_from_logits, token_scores
from plugrad.policy.scored import Wanted
from plugrad.policy.teacher_tokens import LogitSource
from plugrad.policy.teachers import Taught, TeacherStates, in_order


class Outputs:
    """The output layer of a model, at the temperature that samples."""

    def __init__(self, model: nn.Module, head: LinearHead | None, temperature: float) -> None:
        self._model, self._head, self._temperature = model, head, temperature

    def source(self, hidden: Float[Tensor, "tokens hidden"]) -> LogitSource:
        """Return the last hidden states with the output layer that reads them."""
        assert self._head is not None
        head: Any = self._model.get_output_embeddings()  # type: ignore[operator]
        # The head may be more precise than the layers below it.
        given = hidden.to(head.weight.dtype)
        if self._head.hidden_scaling != 1:
            given = given * self._head.hidden_scaling
        return LogitSource(given, head.weight, getattr(head, "bias", None), self._head.scaling, self._head.softcap)

    def logits(self, hidden: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens vocab"]:
        """Return the logits that follow from hidden states, divided by the temperature, in float32 at least."""
        own = self.source(hidden)
        return logits_of(
            own.hidden, own.weight, own.bias, temperature=self._temperature, scaling=own.scaling, softcap=own.softcap
        )

    def scores(
        self,
        hidden: Float[Tensor, "tokens hidden"] | None,
        logits: Float[Tensor, "tokens vocab"] | None,
        targets: Int[Tensor, "tokens"],
        wanted: Wanted,
        taught: Taught,
    ) -> ComparedScores:
        """Return log-probs, entropy and divergences.

        Args:
            hidden: the states that predict the targets, or None where only the logits are known.
            logits: over the temperature, where they exist anyway.
            targets: the counted tokens.
            wanted: what of it.
            taught: the teachers of these tokens.
        """
        if not wanted.divergences or not taught.teachers:
            logprobs, entropy = self._alone(hidden, logits, targets, wanted.entropy)
            # Without a teacher, nothing counts.
            return ComparedScores(logprobs, entropy, tuple(0 * logprobs for _ in wanted.divergences))
        if len(taught.teachers) == 1:
            return self._compared(hidden, logits, targets, wanted, taught.teachers[0])
        places = taught.places()
        parts = []
        for teacher, own in zip(taught.teachers, places, strict=True):
            own_hidden, own_logits = (None if x is None else x[own] for x in (hidden, logits))
            parts.append(self._compared(own_hidden, own_logits, targets[own], wanted, teacher))
        entropies = [part.entropy for part in parts if part.entropy is not None]
        return ComparedScores(
            in_order([part.logprobs for part in parts], places),
            in_order(entropies, places) if entropies else None,
            tuple(in_order(each, places) for each in zip(*(part.divergences for part in parts), strict=True)),
        )

    def _alone(
        self, hidden: Tensor | None, logits: Tensor | None, targets: Tensor, entropy: EntropyMode
    ) -> tuple[Float[Tensor, "tokens"], Float[Tensor, "tokens"] | None]:
        if logits is not None:
            return scores_from_logits(logits, targets, temperature=1.0, entropy=entropy)
        assert hidden is not None
        own = self.source(hidden)
        return token_scores(
            own.hidden,
            own.weight,
            own.bias,
            targets,
            temperature=self._temperature,
            entropy=entropy,
            scaling=own.scaling,
            softcap=own.softcap,
        )

    def _compared(
        self, hidden: Tensor | None, logits: Tensor | None, targets: Tensor, wanted: Wanted, teacher: TeacherStates
    ) -> ComparedScores:
        """Compare with one teacher: block by block if both output layers are linear, else from full logits."""
        theirs = self._source_of(teacher)
        temperature, entropy = self._temperature, wanted.entropy
        if hidden is not None and theirs is not None:
            own = self.source(hidden)
            return compared_scores(
                own.hidden,
                own.weight,
                own.bias,
                targets,
                theirs,
                wanted.divergences,
                temperature=temperature,
                entropy=entropy,
                scaling=own.scaling,
                softcap=own.softcap,
            )
        if logits is None:
            assert hidden is not None
            logits = self.logits(hidden)
        their_logits = teacher.logits if theirs is None else teacher_logits_of(theirs)
        assert their_logits is not None
        return compared_scores_from_logits(
            logits * temperature, targets, their_logits, wanted.divergences, temperature=temperature, entropy=entropy
        )

    @torch.no_grad()
    def _source_of(self, teacher: TeacherStates) -> LogitSource | None:
        """Return what the teacher's logits follow from. The policy as its own teacher has the policy's output layer."""
        if teacher.hidden is None:
            return None
        return (teacher.source or self.source)(teacher.hidden)
