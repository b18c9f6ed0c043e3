"""What a server answers: read, and refused where it is not what was asked for."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from plugrad.rollout.engine import Completion
from plugrad.rollout.servers.request import Asked
from plugrad.rollout.servers.weight_labels import Labels

IMPOSSIBLE = -9999.0
"""vLLM writes it for a log-prob that is not a number or that it does not know."""
ROUNDING = 1e-3


class BadAnswer(Exception):
    """A server's answer is not what was asked for."""


class ForeignWeights(BadAnswer):
    """A server answers with weights that this run did not give it, or that are out of date."""


class _LogProb(BaseModel):
    token_id: int
    logprob: FiniteFloat


class _LogProbs(BaseModel):
    content: list[_LogProb]


class _Span(BaseModel):
    version: str
    start: int
    end: int


class _Choice(BaseModel):
    index: int
    finish_reason: str
    token_ids: Annotated[list[int], Field(min_length=1)]
    logprobs: _LogProbs
    weight_versions: list[_Span]


class _Answer(BaseModel):
    choices: list[_Choice]


def read_answer(content: bytes, asked: Asked, labels: Labels, oldest: int) -> list[Completion]:
    """Return the completions of an answer, in order.

    Args:
        content: the body of the answer.
        asked: what it answers.
        labels: the run's.
        oldest: the version of the weights that the run had when it asked; older tokens are refused.

    Raises:
        BadAnswer: it is not JSON, or not what was asked for.
        ForeignWeights: other weights sampled a token.
    """
    try:
        choices = sorted(_Answer.model_validate_json(content).choices, key=lambda choice: choice.index)
    except ValidationError as error:
        raise BadAnswer(_first_complaint(error)) from error
    found, expected = [choice.index for choice in choices], list(range(asked.num_completions))
    if found != expected:
        raise BadAnswer(f"it has the completions {found} where {expected} were asked for")
    return [_completion(choice, asked, labels, oldest) for choice in choices]


def _completion(choice: _Choice, asked: Asked, labels: Labels, oldest: int) -> Completion:
    ids = choice.token_ids
    _check_tokens(choice, asked)
    return Completion(ids, _logprobs(choice), ids[-1] not in asked.stops, _versions(choice, labels, oldest))


def _check_tokens(choice: _Choice, asked: Asked) -> None:
    ids, most = choice.token_ids, asked.sampling.max_new_tokens
    if len(ids) > most:
        raise BadAnswer(f"completion {choice.index} has {len(ids)} tokens where {most} were the most")
    if outside := [token for token in ids if not 0 <= token < asked.vocab_size]:
        raise BadAnswer(f"completion {choice.index} has the token {outside[0]}: the vocabulary has {asked.vocab_size}")
    if not asked.stops.isdisjoint(ids[:-1]):
        raise BadAnswer(f"completion {choice.index} goes on after a token that ends it")
    if ids[-1] not in asked.stops and (choice.finish_reason != "length" or len(ids) < most):
        raise BadAnswer(
            f"completion {choice.index} ends ({choice.finish_reason}) after {len(ids)} of {most} tokens, the last of which "
            "ends nothing"
        )


def _logprobs(choice: _Choice) -> list[float]:
    content = choice.logprobs.content
    if [entry.token_id for entry in content] != choice.token_ids:
        raise BadAnswer(
            f"completion {choice.index} has {len(choice.token_ids)} tokens, and its {len(content)} log-probs are of others"
        )
    logprobs = [entry.logprob for entry in content]
    for logprob in logprobs:
        if not IMPOSSIBLE < logprob <= ROUNDING:
            raise BadAnswer(f"completion {choice.index} has the log-prob {logprob}: the server's logits are not numbers")
    return logprobs


def _versions(choice: _Choice, labels: Labels, oldest: int) -> list[int]:
    """Return the version of the weights that sampled each token: an update may have come in the middle."""
    versions: list[int] = []
    for span in choice.weight_versions:
        version = labels.version_of(span.version)
        if version is None:
            raise ForeignWeights(f"it answers with the weights {span.version!r}, which this run did not give it")
        if version < oldest:
            raise ForeignWeights(f"it answers with weights of version {version}, where {oldest} is the run's")
        if span.start != len(versions) or span.end < span.start:
            raise BadAnswer(f"completion {choice.index} does not say of each token once which weights sampled it")
        versions += [version] * (span.end - span.start)
    if len(versions) != len(choice.token_ids):
        raise BadAnswer(
            f"completion {choice.index} has {len(choice.token_ids)} tokens, and says of {len(versions)} which "
            "weights sampled them"
        )
    return versions


def _first_complaint(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"it is no answer to what was asked ({f'{where}: ' if where else ''}{first['msg']})"
