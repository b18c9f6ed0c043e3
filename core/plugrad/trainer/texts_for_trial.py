"""What the pre-flight may know about a run's texts before its model is loaded."""

from __future__ import annotations

from collections.abc import Mapping

from plugrad.config.run_file import RunFile
from plugrad.contracts.environment import Example
from plugrad.host.environment import BoundEnvironment
from plugrad.host.trial_texts import TrialTexts, given_text
from plugrad.policy.loading import load_tokenizer
from plugrad.rollout.engine import Completion
from plugrad.rollout.prompts import strings_of, tokenize_completion
from plugrad.rollout.texts import Texts
from plugrad.trainer.held_out_sets import examples_of_set


def trial_texts(run_file: RunFile, environment: BoundEnvironment, of_sets: Mapping[str, BoundEnvironment]) -> TrialTexts:
    """Load the policy's tokenizer, and return what it makes of examples and references.

    Raises:
        ModelError: the tokenizer cannot be loaded, or has no chat template where prompts are chat messages.
    """
    examples = [*environment.train_examples(), *environment.eval_examples()]
    examples += [example for name, bound in of_sets.items() for example in examples_of_set(name, bound)]
    tokenizer, vocabulary = load_tokenizer(run_file.model, strings_of(examples), run_file.folders)
    texts = Texts.of(run_file.rollout, tokenizer)

    def completion(example: Example, member: int) -> str:
        text = given_text(example, member)
        if text is None:
            return ""
        ids = tokenize_completion(text, example, tokenizer, texts.turn_end)
        return texts.completion(Completion(ids, None, truncated=False, policy_versions=[0] * len(ids)))

    return TrialTexts(
        vocabulary=vocabulary,
        prompt=texts.prompt_text,
        completion=completion,
        # An evaluation samples.
        replays=not run_file.rollout.engine_kind.samples and not run_file.evaluation.every_steps,
    )
