"""Calling an environment: usable examples, and a finite reward for every rollout."""

import math

import pytest

from plugrad import ContractError, DataError
from plugrad.host.environment import BoundEnvironment


class Sums:
    def __init__(self, train=({"prompt": "2+3="},), held_out=(), scores=None):
        self.train, self.held_out, self.scores = train, held_out, scores

    def train_examples(self):
        return self.train

    def eval_examples(self):
        return self.held_out

    def score(self, rollouts):
        return self.scores


@pytest.fixture
def sums(component):
    """Bind the environment above with what it returns."""
    return lambda **returned: BoundEnvironment.create(component(Sums, "environment", **returned))


@pytest.mark.parametrize("method", ["train_examples", "eval_examples", "score"])
def test_a_missing_method_is_named(component, method):
    methods = {name: lambda self: [] for name in ("train_examples", "eval_examples", "score") if name != method}
    with pytest.raises(ContractError, match=rf"the environment 'Partial' \(mine\) has no method {method}\(\)"):
        BoundEnvironment.create(component(type("Partial", (), methods), "environment"))


def test_examples_get_an_id_unless_they_have_one(sums):
    environment = sums(train=[{"prompt": "a"}, {"prompt": "b", "example_id": "own"}], held_out=[{"prompt": "c", "x": 1}])
    assert [example["example_id"] for example in environment.train_examples()] == [0, "own"]
    assert environment.eval_examples() == [{"example_id": 0, "prompt": "c", "x": 1}]


def test_an_environment_may_hold_nothing_out_but_must_train_on_something(sums):
    environment = sums(train=[], held_out=[])
    assert environment.eval_examples() == []
    with pytest.raises(DataError, match=r"the environment 'Sums' \(mine\) has no training examples"):
        environment.train_examples()


def test_an_example_without_a_prompt_is_named_with_its_columns(sums):
    with pytest.raises(
        DataError, match=r"'Sums' \(mine\): example 1 is a mapping with the columns question, answer; .*column 'prompt'"
    ):
        sums(train=[{"prompt": "a"}, {"question": "b", "answer": "c"}]).train_examples()


def test_an_example_that_is_no_mapping_is_named_with_its_type(sums):
    with pytest.raises(DataError, match="example 0 is str; an example is a mapping"):
        sums(held_out=["2+3="]).eval_examples()


@pytest.mark.parametrize(("returned", "found"), [(None, "NoneType"), ("2+3=", "str"), (iter([]), "list_iterator")])
def test_examples_are_a_list(sums, returned, found):
    with pytest.raises(ContractError, match=rf"\.train_examples\(\) returned {found}; return a list of examples"):
        sums(train=returned).train_examples()


def test_an_environment_that_raises_is_named_with_its_method(component):
    class Failing(Sums):
        def eval_examples(self):
            raise OSError("no disk")

        def score(self, rollouts):
            raise KeyError("reference")

    environment = BoundEnvironment.create(component(Failing, "environment"))
    with pytest.raises(ContractError, match=r"'Failing' \(mine\)\.eval_examples raised OSError: no disk"):
        environment.eval_examples()
    with pytest.raises(ContractError, match=r"'Failing' \(mine\) raised KeyError: 'reference'"):
        environment.score([])


def test_scores_become_rewards_in_order(sums, rollout):
    rollouts = [rollout(), rollout(), rollout(reward_components={"stale": 1.0})]
    sums(scores=[1, 0.25, True]).score(rollouts)
    assert [r["reward"] for r in rollouts] == [1.0, 0.25, 1.0]
    assert {type(r["reward"]) for r in rollouts} == {float}
    assert [r["reward_components"] for r in rollouts] == [{}, {}, {}]


def test_components_are_summed(sums, rollout):
    rollouts = [rollout()]
    sums(scores=[{"right": 1, "short": -0.25}]).score(rollouts)
    assert rollouts[0]["reward"] == 0.75
    assert rollouts[0]["reward_components"] == {"right": 1.0, "short": -0.25}


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        (
            [{"right": 1.0, "short": 0.5}, {"right": 1.0}],
            "the reward components right, short and another has the reward components right",
        ),
        ([{"right": 1.0}, 1.0], "the reward components right and another has no reward components"),
    ],
)
def test_components_that_differ_within_an_example_are_named_once(sums, rollout, scores, found, caplog):
    environment = sums(scores=scores)
    rollouts = [rollout(), rollout()]
    for _ in range(2):
        environment.score(rollouts)
    assert [r["reward"] for r in rollouts] == [sum(score.values()) if isinstance(score, dict) else score for score in scores]
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("the environment 'Sums' (mine): one completion of example 'sum' has " + found)
    assert message.endswith("return all components for every completion.")


def test_components_may_differ_between_examples(sums, rollout, caplog):
    other = rollout(example={"example_id": "product", "prompt": "2*3="})
    sums(scores=[{"right": 1.0}, {"tests": 0.5}]).score([rollout(), other])
    assert other["reward_components"] == {"tests": 0.5}
    assert not caplog.records


def test_a_component_called_reward_is_the_reward(sums, rollout):
    rollouts = [rollout()]
    sums(scores=[{"right": 1.0, "short": 5.0, "reward": 0.5}]).score(rollouts)
    assert rollouts[0]["reward"] == 0.5
    assert rollouts[0]["reward_components"] == {"right": 1.0, "short": 5.0, "reward": 0.5}


@pytest.mark.parametrize(
    ("scores", "found"), [([1.0], "1 score"), ([1.0] * 3, "3 scores"), (None, "NoneType"), (1.0, "float")]
)
def test_there_is_one_score_per_rollout(sums, rollout, scores, found):
    with pytest.raises(ContractError, match=rf"'Sums' \(mine\)\.score returned {found} for 2 rollouts; return one each"):
        sums(scores=scores).score([rollout(), rollout()])


@pytest.mark.parametrize("score", [math.nan, -math.inf, None, "right", {"right": math.nan}, {"right": None}])
def test_a_reward_that_is_no_number_names_completion_and_example(sums, rollout, score):
    wrong = rollout(completion="five", example={"example_id": "sum 7", "prompt": "2+3="})
    value = score["right"] if isinstance(score, dict) else score
    with pytest.raises(DataError) as caught:
        sums(scores=[0.0, score]).score([rollout(), wrong])
    returned = f"component 'right' as {value!r}" if isinstance(score, dict) else repr(value)
    assert f"returned the reward {returned}, which is not a finite number" in str(caught.value)
    assert "for the completion 'five' of example 'sum 7'" in str(caught.value)


@pytest.mark.parametrize(
    "example", [{"prompt": "a\ud800"}, {"prompt": "", "reference": "\udc00"}, {"prompt": [{"content": ["\ud83d"]}]}]
)
def test_half_of_a_surrogate_pair_names_the_example(component, example):
    class Halved(Sums):
        def eval_examples(self):
            return [{"example_id": 7, **example}]

    with pytest.raises(DataError, match=r"of example 7 has half of a surrogate pair, which is no character .*'.*\\u"):
        BoundEnvironment.create(component(Halved, "environment")).eval_examples()


@pytest.mark.parametrize("method", ["step", "reset", "compute_score"])
def test_a_method_that_nobody_calls_is_named(component, caplog, method):
    extra = type("Extra", (Sums,), {method: lambda self, *_: None, "_step": lambda self: None, "helper": lambda self: None})
    BoundEnvironment.create(component(extra, "environment"))
    (record,) = caplog.records
    assert f"the environment 'Extra' (mine) has the method {method}(), which plugrad never calls" in record.getMessage()
    caplog.clear()
    BoundEnvironment.create(component(Sums, "environment"))
    assert not caplog.records
