"""Promises about an engine's completions: number, length and policy version. And an engine can be closed twice."""

from __future__ import annotations

from plugrad.rollout.engine import Completion, RolloutEngine
from plugrad.testing.checks import Broken, Promise
from plugrad.testing.engines.engine_trial import SAMPLING, EngineTrial

VERSION = 3


def _check_runs(trial: EngineTrial) -> str:
    made = trial.make_engine(trial.model, trial.tokenizer)
    if not isinstance(made, RolloutEngine):
        missing = [method for method in ("generate", "update_weights", "close") if not hasattr(made, method)]
        raise Broken(f"{type(made).__name__} has no {' and no '.join(missing)}")
    made.close()
    with trial.opened() as engine:
        sizes = [len(group) for group in engine.generate(trial.prompts, SAMPLING)]
    if sizes != [SAMPLING.num_completions] * len(trial.prompts):
        raise Broken(
            f"for {len(trial.prompts)} prompts and num_completions = {SAMPLING.num_completions} it returns groups of {sizes}"
        )
    return f"{len(sizes)} groups of {SAMPLING.num_completions}"


def _check_completions(trial: EngineTrial) -> str:
    with trial.opened() as engine:
        found = [completion for group in engine.generate(trial.prompts, SAMPLING) for completion in group]
    for completion in found:
        _check_tokens(completion, int(trial.tokenizer.eos_token_id))
        _check_logprobs_given(completion, trial.samples)
    lengths = [len(completion.ids) for completion in found]
    return f"{min(lengths)} to {max(lengths)} tokens, {sum(c.truncated for c in found)} of {len(found)} truncated"


def _check_tokens(completion: Completion, end: int) -> None:
    length = len(completion.ids)
    if not 0 < length <= SAMPLING.max_new_tokens:
        raise Broken(f"a completion has {length} tokens instead of 1 to max_new_tokens = {SAMPLING.max_new_tokens}")
    if end in completion.ids[:-1]:
        raise Broken(f"a completion continues after its end-of-sequence token: {completion.ids}")
    ended = completion.ids[-1] == end
    if completion.truncated is ended:
        raise Broken(
            f"truncated is {completion.truncated} for a completion {'with' if ended else 'without'} an end-of-sequence token"
        )


def _check_logprobs_given(completion: Completion, samples: bool) -> None:
    if (completion.logprobs is not None) != samples:
        raise Broken("a sampled completion has no log-probs" if samples else "a replayed completion has log-probs")
    if completion.logprobs is not None and len(completion.logprobs) != len(completion.ids):
        raise Broken(f"{len(completion.ids)} tokens have {len(completion.logprobs)} log-probs")


def _check_versions(trial: EngineTrial) -> str:
    with trial.opened() as engine:
        engine.update_weights(trial.weights(), version=VERSION)
        completions = [c for group in engine.generate(trial.prompts, SAMPLING) for c in group]
    _check_one_version_per_token(completions)
    versions = {version for completion in completions for version in completion.policy_versions}
    if versions != {VERSION}:
        raise Broken(f"after update_weights(..., version={VERSION}) completions carry {sorted(versions)}")
    return f"{VERSION} after update_weights(..., version={VERSION})"


def _check_one_version_per_token(completions: list[Completion]) -> None:
    for completion in completions:
        if len(completion.policy_versions) != len(completion.ids):
            raise Broken(f"{len(completion.ids)} tokens have {len(completion.policy_versions)} policy_versions")


def _check_closes(trial: EngineTrial) -> str:
    engine = trial.make_engine(trial.model, trial.tokenizer)
    engine.close()
    try:
        engine.close()
    except Exception as error:
        raise Broken(f"the second close() raises {type(error).__name__}: {error}") from error
    return "twice, without an error"


RUNS: Promise[EngineTrial] = Promise(
    "runs",
    "it has the three methods and returns the requested number of completions per prompt, in order",
    "An advantage compares the completions of a group.",
    "Write generate, update_weights and close as in plugrad.rollout.engine.RolloutEngine. generate returns one list per "
    "prompt.",
    _check_runs,
)
COMPLETIONS: tuple[Promise[EngineTrial], ...] = (
    Promise(
        "completions",
        "a completion ends at its first end-of-sequence token or at max_new_tokens, reports which, and has one log-prob "
        "per token",
        "The end-of-sequence token is sampled and trained on like any other. What follows it is not.",
        "Keep the end-of-sequence token and cut what follows it. Set truncated=True if there is none. Replayed completions "
        "have logprobs=None.",
        _check_completions,
    ),
    Promise(
        "versions",
        "each token carries the version of the weights that sampled it",
        "Nothing else shows how old the policy was that sampled a token.",
        "Store the version passed to update_weights, and write it into each completion, once per token.",
        _check_versions,
    ),
    Promise(
        "closes",
        "it can be closed twice",
        "A failing run can close it more than once.",
        "Let the second close() do nothing.",
        _check_closes,
    ),
)
