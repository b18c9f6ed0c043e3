"""Parse a server's response, and reject one that does not match the request."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from plugrad.rollout.engine import Completion
from plugrad.rollout.servers.request import CompletionRequest
from plugrad.rollout.servers.weight_labels import WeightLabels
from plugrad.shown import printable

INVALID_LOGPROB = -9999.0
"""What vLLM returns for a log-prob that is NaN or unknown."""
ROUNDING = 1e-3
LONGEST = 200
"""Characters of a server's text that a message repeats."""


class InvalidResponse(Exception):
    """A server's response does not match the request."""


class WrongWeights(InvalidResponse):
    """A server sampled with weights that this run did not send, or with outdated ones."""


class NotYetSent(WrongWeights):
    """A server claims to have sampled with newer weights than this run has sent."""

    def __init__(self, version: int, newest: int) -> None:
        super().__init__(f"it sampled with weights of version {version}, and this run has sent none newer than {newest}")
        self.version = version


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


class _Response(BaseModel):
    choices: list[_Choice]


def parse_response(
    content: bytes, request: CompletionRequest, labels: WeightLabels, oldest: int, newest: int
) -> list[Completion]:
    """Return the completions of a response, in order.

    Args:
        content: the response body.
        request: the request that it responds to.
        labels: the run's weight labels.
        oldest: the run's weight version when it sent the request. Tokens of older weights are rejected.
        newest: the newest version that the run has sent or is sending. Tokens of newer weights are rejected.

    Raises:
        InvalidResponse: the content is not JSON, or does not match the request.
        WrongWeights: a token was sampled with other or older weights.
        NotYetSent: a token claims newer weights than any that was sent.
    """
    try:
        choices = sorted(_Response.model_validate_json(content).choices, key=lambda choice: choice.index)
    except ValidationError as error:
        raise InvalidResponse(_first_error(error)) from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise InvalidResponse(f"it is not a valid response ({error})") from error
    found, expected = [choice.index for choice in choices], list(range(request.num_completions))
    if found != expected:
        raise InvalidResponse(f"it returned completions {str(found)[:LONGEST]} instead of {str(expected)[:LONGEST]}")
    return [_completion(choice, request, labels, oldest, newest) for choice in choices]


def _completion(choice: _Choice, request: CompletionRequest, labels: WeightLabels, oldest: int, newest: int) -> Completion:
    ids = choice.token_ids
    _check_tokens(choice, request)
    return Completion(ids, _logprobs(choice), ids[-1] not in request.stops, _versions(choice, labels, oldest, newest))


def _check_tokens(choice: _Choice, request: CompletionRequest) -> None:
    ids, limit = choice.token_ids, request.sampling.max_new_tokens
    if len(ids) > limit:
        raise InvalidResponse(f"completion {choice.index} has {len(ids)} tokens, more than the limit of {limit}")
    if outside := [token for token in ids if not 0 <= token < request.vocab_size]:
        raise InvalidResponse(
            f"completion {choice.index} has the token {outside[0]}, outside the vocabulary of {request.vocab_size}"
        )
    if not request.stops.isdisjoint(ids[:-1]):
        raise InvalidResponse(f"completion {choice.index} continues after a stop token")
    if ids[-1] not in request.stops and (choice.finish_reason != "length" or len(ids) < limit):
        reason = printable(choice.finish_reason, LONGEST)
        raise InvalidResponse(
            f"completion {choice.index} ends ({reason}) after {len(ids)} of {limit} tokens without a stop token"
        )


def _logprobs(choice: _Choice) -> list[float]:
    content = choice.logprobs.content
    if [entry.token_id for entry in content] != choice.token_ids:
        raise InvalidResponse(
            f"completion {choice.index} has {len(choice.token_ids)} tokens, but its {len(content)} log-probs are for others"
        )
    logprobs = [entry.logprob for entry in content]
    for logprob in logprobs:
        if not INVALID_LOGPROB < logprob <= ROUNDING:
            raise InvalidResponse(
                f"completion {choice.index} has the impossible log-prob {logprob}: are the server's logits finite?"
            )
    return logprobs


def _versions(choice: _Choice, labels: WeightLabels, oldest: int, newest: int) -> list[int]:
    """Return the weight version that sampled each token: an update may arrive during a completion."""
    versions: list[int] = []
    for span in choice.weight_versions:
        version = labels.version_of(span.version)
        if version is None:
            raise WrongWeights(f"it sampled with the weights {span.version[:LONGEST]!r}, which this run did not send")
        if version < oldest:
            raise WrongWeights(f"it sampled with weights of version {version}, and this run is at version {oldest}")
        if version > newest:
            raise NotYetSent(version, newest)
        if span.end > len(choice.token_ids):
            raise InvalidResponse(
                f"completion {choice.index} has {len(choice.token_ids)} tokens, but weight versions for {str(span.end)[:20]}"
            )
        if span.start != len(versions) or span.end < span.start:
            raise InvalidResponse(f"completion {choice.index} has weight versions with gaps or overlaps")
        versions += [version] * (span.end - span.start)
    if len(versions) != len(choice.token_ids):
        raise InvalidResponse(
            f"completion {choice.index} has {len(choice.token_ids)} tokens, but weight versions for {len(versions)}"
        )
    return versions


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"it is not a valid response ({f'{where}: ' if where else ''}{first['msg'][:LONGEST]})"
