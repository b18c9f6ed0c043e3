"""The kit for environments: each broken one is found by the check that is made for it; correct ones pass."""

import json

import broken_environments
import pytest

from plugrad.testing import Outcome, environment_checks, run_checks

PROCESSES = {"import_effects"}


def results(component, **options):
    checks = environment_checks(component, options=options)
    return {r.check.name: r for r in run_checks([check for check in checks if check.name not in PROCESSES])}


def bad(found):
    return {name for name, result in found.items() if result.is_bad}


@pytest.mark.parametrize("name", broken_environments.BROKEN)
def test_a_broken_environment_is_found_by_the_check_made_for_it(name):
    target, expected = broken_environments.BROKEN[name]
    assert bad(results(target)) == expected


def test_every_check_that_can_fail_has_one_that_fails_it():
    checks = {check.name for check in environment_checks("arithmetic")}
    found = set().union(*(names for _, names in broken_environments.BROKEN.values()))
    of_plays = {"asks", "tool_calls", "examples_unchanged"}
    assert found == checks - {"held_out", "import_effects"} - of_plays


def test_a_correct_one_passes():
    found = results(broken_environments.Sums)
    assert not bad(found)
    assert found["runs"].seen == "8 training examples, 1 held out; scores from 0 to 1"
    assert found["references"].seen == "references score 1 to 1, empty completions no more"


@pytest.mark.parametrize("options", [{}, {"digits": 1, "reverse": True}], ids=str)
def test_arithmetic_passes(options):
    assert not bad(results("arithmetic", **options))


def test_jsonl_passes_with_a_file_and_a_function(tmp_path, write):
    lines = [json.dumps({"prompt": f"{a}+1=", "reference": str(a + 1)}) for a in range(9)]
    path = write("problems.jsonl", "\n".join(lines))
    reward = write("rewards.py", "def right(completion, example):\n    return {'right': float(completion == '3')}\n")
    found = results("jsonl", path=str(path), reward=f"{reward}:right", num_eval=2)
    assert not bad(found)
    assert found["held_out"].seen == "0 of 2 held-out prompts are also trained on"


def test_held_out_prompts_that_are_trained_on_are_reported():
    class Leaks(broken_environments.Sums):
        def eval_examples(self):
            return self.train_examples()[:3]

    found = results(Leaks)
    assert found["held_out"].seen == "3 of 3 held-out prompts are also trained on"
    assert bad(found) == {"pickles"}


def test_without_references_or_held_out_examples_it_may_be_right():
    class Free(broken_environments.Sums):
        def train_examples(self):
            return [{"prompt": [{"role": "user", "content": "Write a poem."}]}]

        def eval_examples(self):
            return []

        def score(self, rollouts):
            return [{"letters": len(rollout["completion"]), "lines": 0} for rollout in rollouts]

    found = results(Free)
    assert bad(found) == {"pickles"}
    assert found["references"].outcome is Outcome.NOT_APPLICABLE
    assert found["held_out"].seen == "none held out"


def test_what_it_writes_is_reported():
    class Writes(broken_environments.Sums):
        def score(self, rollouts):
            for rollout in rollouts:
                rollout["metrics"]["length"] = float(len(rollout["completion"]))
                rollout["info"] = {"judge": "none"}
            return super().score(rollouts)

    assert results(Writes)["rollouts_unchanged"].seen == "it writes info and metrics"


def test_the_completion_that_was_not_survived_is_named():
    assert results(broken_environments.ParsesNumbers)["odd_completions"].seen.startswith("the completion '': ")
