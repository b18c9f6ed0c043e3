"""Pre-flight: a wrong component costs a second, and trying it changes nothing."""

import random
import re
from textwrap import dedent

import pytest
import torch

from plugrad import ContractError, DataError, PlugradError, RunFile
from plugrad.host.environment import BoundEnvironment
from plugrad.host.metric import compute_metrics
from plugrad.host.preflight import preflight
from plugrad.host.select import select

HEAD = """
import random

import torch

from plugrad import AdvantageOutputs, BatchLossInputs, LossInputs, LossOutputs, Mean, hookimpl, loss, metric

"""


@pytest.fixture
def selected(write, tmp_path):
    """Write a module, and select from it what these tables name; the rest is small and works."""

    def make(code="", **tables):
        write("mine.py", HEAD + dedent(code))
        needed = {
            "search_paths": [str(tmp_path)],
            "model": {"name": "a/model"},
            "environment": {"name": "arithmetic", "kwargs": {"digits": 1, "num_train": 4}},
            "rollout": {"rollouts_per_example": 3},
            "metrics": ["reward"],
        }
        return select(RunFile(**{**needed, **tables}))

    return make


def fly(selection, rollouts_per_example=3):
    preflight(selection, BoundEnvironment.create(selection.environment), rollouts_per_example)


def test_core_passes(selected):
    losses = ["importance_sampling", "ppo_clip", "cross_entropy", "kl_to_reference", "entropy_bonus"]
    tables = {"loss": [{"name": name} for name in losses], "extension": [{"name": "timing"}, {"name": "nan_guard"}]}
    fly(selected(**tables, advantage={"name": "group_normalized"}, metrics="all"))
    single = {"advantage": {"name": "constant"}, "rollout": {"rollouts_per_example": 1}}
    fly(selected(**tables, **single), rollouts_per_example=1)


def test_a_loss_sees_ordinary_numbers_of_what_it_asked_for(selected):
    selection = selected(
        """
        seen = []

        @loss(needs={"old_logprobs", "entropy"})
        def looking(inputs: BatchLossInputs):
            seen.append(inputs)
            return LossOutputs(inputs.trainer_logprobs)
        """,
        loss={"name": "mine.py:looking"},
    )
    fly(selection)
    inputs, _ = selection.losses[0].call.func.__globals__["seen"]
    assert inputs.loss_mask.shape[0] == 6
    counted = inputs.trainer_logprobs[inputs.loss_mask]
    assert bool(((counted <= 0) & (counted >= -2)).all())
    assert len(set(inputs.loss_mask.sum(dim=1).tolist())) > 1
    assert not inputs.loss_mask[:, :2].any()
    assert inputs.entropy.requires_grad
    assert inputs.ref_logprobs is None
    assert inputs.group_ids.tolist() == [0, 0, 0, 1, 1, 1]
    assert inputs.metadata[0]["prompt"].endswith("=")


WRONG_LOSSES = {
    "none": ("return None", "returned NoneType; a loss returns"),
    "shape": ("return LossOutputs(inputs.trainer_logprobs[:, :-1])", r"returned a loss of shape \(6, 6\); .* \[6, 7\]"),
    "scalar": ("return LossOutputs(inputs.trainer_logprobs.mean())", "takes BatchLossInputs and returned a scalar"),
    "typo": ("return LossOutputs(inputs.trainer_logprob)", "raised AttributeError: .*trainer_logprob"),
    "not asked for": ("return LossOutputs(inputs.trainer_logprobs - inputs.ref_logprobs)", "raised TypeError"),
    "detached": ("return LossOutputs(inputs.trainer_logprobs.detach())", "returned a loss without gradient"),
    "advantages": ("return LossOutputs(inputs.advantages)", "returned a loss without gradient"),
    "nan": ("return LossOutputs(inputs.trainer_logprobs.log())", "returned nan for ordinary log-probs between -2 and 0"),
    "infinite": ("return LossOutputs(inputs.trainer_logprobs / 0)", "returned -inf for ordinary log-probs"),
    "metric": ("return LossOutputs(inputs.trainer_logprobs, {'kl': 'x'})", "returned the metric 'kl': .* this is a str"),
}


@pytest.mark.parametrize("wrong", WRONG_LOSSES)
def test_a_wrong_loss_is_found_with_its_owner(selected, wrong):
    body, message = WRONG_LOSSES[wrong]
    selection = selected(f"def wrong(inputs: BatchLossInputs):\n    {body}\n", loss={"name": "mine.py:wrong"})
    with pytest.raises(ContractError, match=rf"the loss 'wrong' \(.*mine\.py\) {message}"):
        fly(selection)


def test_a_loss_that_changes_with_every_call_is_found(selected):
    code = """
        class Counts:
            def __init__(self):
                self.calls = 0

            def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
                self.calls += 1
                return LossOutputs(-inputs.trainer_logprobs * self.calls)
        """
    with pytest.raises(ContractError, match=r"the loss 'Counts' .* gives other values when it is called again"):
        fly(selected(code, loss={"name": "mine:Counts"}))


def test_a_loss_that_draws_is_no_loss_that_changes(selected):
    code = """
        @loss(cut_dependent=True)
        def drops(inputs: BatchLossInputs) -> LossOutputs:
            return LossOutputs(-inputs.trainer_logprobs * (torch.rand(inputs.loss_mask.shape) < 0.5))
        """
    fly(selected(code, loss={"name": "mine:drops"}))


def test_a_loss_is_told_of_an_update_before_the_first_one(selected):
    code = """
        class Learns:
            def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
                return LossOutputs(-inputs.trainer_logprobs, {"length": inputs.loss_mask.sum(1).double()})

            def after_update(self, measures):
                measures["lenght"]
        """
    with pytest.raises(ContractError, match=r"the loss 'Learns' .* in its after_update raised KeyError: 'lenght'"):
        fly(selected(code, loss={"name": "mine:Learns"}))


def test_a_wrong_loss_of_a_sequence_is_found(selected):
    code = "def wrong(inputs: LossInputs):\n    return LossOutputs(inputs.trainer_logprobs.sum(), {'kl': {'a': 1.0}})\n"
    with pytest.raises(ContractError, match=r"the loss 'wrong' \(.*\) returned the metric 'kl': .* this is a dict"):
        fly(selected(code, loss={"name": "mine.py:wrong"}))


def test_the_second_loss_is_tried_too(selected):
    code = "def wrong(inputs):\n    return None\n"
    with pytest.raises(ContractError, match="the loss 'wrong'"):
        fly(selected(code, loss=[{"name": "ppo_clip"}, {"name": "mine.py:wrong"}]))


def test_a_loss_of_entropy_alone_has_a_gradient(selected):
    fly(selected(loss={"name": "entropy_bonus"}))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return inputs.rewards", "returned Tensor; an advantage returns"),
        ("return AdvantageOutputs(inputs.rewards[:, :1])", r"returned advantages of shape \(2, 1\)"),
        ("return AdvantageOutputs(inputs.rewards / 0)", "returned an advantage that is not finite"),
        ("return inputs.reward", "raised AttributeError"),
    ],
)
def test_a_wrong_advantage_is_found(selected, body, message):
    selection = selected(f"def wrong(inputs):\n    {body}\n", advantage={"name": "mine.py:wrong"})
    with pytest.raises(ContractError, match=rf"the advantage 'wrong' \(.*mine\.py\) {message}"):
        fly(selection)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 0.5", "returned float; a metric returns"),
        ("return {'x': inputs.loss_mask}", r"returned 'x': .*shape \[6, 7\]"),
    ],
)
def test_a_wrong_metric_that_was_asked_for_is_found(selected, body, message):
    selection = selected(f"def wrong(inputs):\n    {body}\n", metrics=["mine.py:wrong"])
    with pytest.raises(ContractError, match=rf"the metric 'wrong' \(.*mine\.py\) {message}"):
        fly(selection)


SUMS = """
class Sums:
    def train_examples(self):
        return [{"prompt": "1+1=", "answer": "2"}]

    def eval_examples(self):
        return []

    def score(self, rollouts):
        return %s
"""


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        ("[0.0]", ContractError, r"score returned 1 score for 6 rollouts"),
        ("[float('nan')] * len(rollouts)", DataError, "returned the reward nan, which is not a finite number"),
        ("[r['example']['reference'] for r in rollouts]", ContractError, "raised KeyError: 'reference'"),
    ],
)
def test_a_wrong_environment_is_found(selected, scores, error, message):
    selection = selected(SUMS % scores, environment={"name": "mine.py:Sums"})
    with pytest.raises(error, match=rf"the environment 'Sums' \(.*mine\.py\).*{message}"):
        fly(selection)


def test_one_example_is_enough(selected):
    fly(selected(SUMS % "[1.0] * len(rollouts)", environment={"name": "mine.py:Sums"}))


@pytest.mark.parametrize(("hook", "argument"), [("prepare_advantages", "inputs"), ("prepare_loss", "inputs")])
def test_an_extension_that_forgets_to_return_is_found(selected, hook, argument):
    code = f"""
class Forgetful:
    @hookimpl(wrapper=True)
    def {hook}(self, {argument}):
        result = yield
"""
    with pytest.raises(PlugradError, match=rf"the extension 'Forgetful' .*: {hook} returned NoneType; it must return"):
        fly(selected(code, extension={"name": "mine.py:Forgetful"}))


@pytest.mark.parametrize(
    ("hook", "arguments"), [("compute_loss", "component"), ("compute_metrics", "inputs"), ("before_update", "loss")]
)
def test_an_extension_that_raises_is_named(selected, hook, arguments):
    wrapper = "wrapper=True" if hook != "before_update" else ""
    code = f"""
class Faulty:
    @hookimpl({wrapper})
    def {hook}(self, {arguments}):
        raise KeyError("oh")
        {"yield" if wrapper else ""}
"""
    with pytest.raises(PlugradError, match=rf"the extension 'Faulty' \(.*mine\.py\) in its {hook} raised KeyError: 'oh'"):
        fly(selected(code, extension={"name": "mine.py:Faulty"}))


def test_a_metric_that_merely_is_installed_is_switched_off_and_stops_nothing(selected, caplog):
    selection = selected("def fails(inputs):\n    return 1 / 0\n", metrics=["mine.py:fails"])
    (metric,) = selection.metrics
    metric.is_listed = False
    fly(selection)
    (said,) = caplog.messages
    assert re.search(r"raised ZeroDivisionError: division by zero \(.*mine\.py:\d+\); it is switched off$", said)
    assert not compute_metrics([metric], None)


def test_an_extension_without_hooks_is_found(selected):
    with pytest.raises(PlugradError, match=r"the extension 'Idle' .* implements no hook"):
        fly(selected("class Idle: ...\n", extension={"name": "mine.py:Idle"}))


RANDOM = """
def careless(inputs):
    torch.manual_seed(7)
    random.seed(7)
    return LossOutputs((inputs.trainer_logprobs * torch.rand(1) * random.random()).sum())

def failing(inputs):
    careless(inputs)
    raise RuntimeError
"""


@pytest.mark.parametrize("name", ["careless", "failing"])
def test_random_states_are_put_back(selected, name):
    selection = selected(RANDOM, loss={"name": f"mine.py:{name}"})
    torch.manual_seed(1)
    random.seed(1)
    expected = torch.rand(3).tolist(), random.random()
    torch.manual_seed(1)
    random.seed(1)
    if name == "failing":
        with pytest.raises(ContractError, match="RuntimeError"):
            fly(selection)
    else:
        fly(selection)
    assert (torch.rand(3).tolist(), random.random()) == expected


def test_it_tries_the_same_numbers_every_time(selected):
    code = """
seen = []

def keeping(inputs):
    seen.append(inputs.trainer_logprobs.tolist())
    return LossOutputs(inputs.trainer_logprobs.sum())
"""
    selection = selected(code, loss={"name": "mine.py:keeping"})
    fly(selection)
    torch.rand(5)
    fly(selection)
    seen = selection.losses[0].call.call.func.__globals__["seen"]
    assert len(seen) == 24
    assert seen[:12] == seen[12:]


def test_what_runs_later_was_not_touched(selected):
    code = """
class Counting:
    def __init__(self):
        self.calls = 0

    def __call__(self, inputs):
        self.calls += 1
        return self.result(inputs)

class Loss(Counting):
    def result(self, inputs):
        return LossOutputs(inputs.trainer_logprobs.sum())

class Advantage(Counting):
    def result(self, inputs):
        return AdvantageOutputs(inputs.rewards)

class Metric(Counting):
    def result(self, inputs):
        return {"x": 1.0}
"""
    selection = selected(
        code, loss={"name": "mine.py:Loss"}, advantage={"name": "mine.py:Advantage"}, metrics=["mine.py:Metric"]
    )
    fly(selection)
    instances = (selection.losses[0].call.call, selection.advantage.call, selection.metrics[0].call)
    assert [instance.calls for instance in instances] == [0, 0, 0]
    assert selection.metrics[0].failures == 0


STATEFUL = """
class Counts:
    def __init__(self):
        self.count = 0

class CountingAdvantage(Counts):
    def __call__(self, inputs):
        self.count += 1
        return AdvantageOutputs(inputs.rewards)

class CountingLoss(Counts):
    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        return LossOutputs(-inputs.trainer_logprobs * inputs.advantages)

    def after_update(self, measures):
        self.count += 1

class CountingMetric(Counts):
    def __call__(self, inputs):
        self.count += 1
        return {"count": self.count}

class CountingExtension(Counts):
    @hookimpl
    def before_update(self):
        self.count += 1

class CountingEnvironment(Counts):
    def train_examples(self):
        return [{"prompt": "1"}, {"prompt": "2"}]

    def eval_examples(self):
        return []

    def score(self, rollouts):
        self.count += len(rollouts)
        return [float(i) for i, _ in enumerate(rollouts)]
"""
TABLES = {
    "advantage": lambda table: table,
    "loss": lambda table: table,
    "metric": lambda table: [table],
    "extension": lambda table: [table],
    "environment": lambda table: table,
}
SAVES = """
    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]

class CountingAdvantage"""


@pytest.mark.parametrize("kind", TABLES)
def test_state_that_nobody_saves_is_told_of_once_in_every_kind(selected, kind, caplog):
    name = f"Counting{kind.capitalize()}"
    fly(selected(STATEFUL, **{kind: TABLES[kind]({"name": f"mine.py:{name}"})}))
    [told] = [record.getMessage() for record in caplog.records if "state_dict" in record.getMessage()]
    assert re.search(rf"the {kind} '{name}' .* changes self\.count when it is called, and has no state_dict", told)


@pytest.mark.parametrize("kind", TABLES)
def test_state_that_is_saved_is_not_told_of(selected, kind, caplog):
    code = STATEFUL.replace("\nclass CountingAdvantage", SAVES, 1)
    selection = selected(code, **{kind: TABLES[kind]({"name": f"mine.py:Counting{kind.capitalize()}"})})
    environment = BoundEnvironment.create(selection.environment)
    preflight(selection, environment, 3)
    assert not [record for record in caplog.records if "state_dict" in record.getMessage()]
    # The run's own environment is as it was.
    assert getattr(environment.environment, "count", 0) == 0


@pytest.mark.parametrize("kind", TABLES)
def test_a_state_that_cannot_be_saved_is_refused_in_every_kind(selected, kind):
    code = STATEFUL.replace("\nclass CountingAdvantage", SAVES.replace("self.count}", "lambda: 0}"), 1)
    selection = selected(code, **{kind: TABLES[kind]({"name": f"mine.py:Counting{kind.capitalize()}"})})
    with pytest.raises(ContractError, match=rf"the {kind} .*: state_dict\(\)\['count'\] is a function"):
        fly(selection)
