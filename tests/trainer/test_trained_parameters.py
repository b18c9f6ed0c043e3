"""Runs with losses that train parameters of their own: what they learn, what is refused, and what is saved."""

import pytest
import torch
from safetensors.torch import load_file, save_file

import plugrad
from plugrad import BatchLossInputs, ContractError, ModelError, ModelSizes, PluginError, RunFileError

PLUGINS = """
import torch
from torch.func import functional_call
from plugrad import BatchLossInputs, LossInputs, LossOutputs, Mean, ModelSizes, loss


@loss(needs={"entropy"}, policy_gradient=False)
class Uncertainty:
    '''sum_k exp(-s_k) L_k + s_k, learned (Kendall et al., 2018): the more a task costs, the less it counts.'''

    def __init__(self, start: float = 0.0) -> None:
        self._start = start

    def trained(self, sizes: ModelSizes) -> torch.nn.Module:
        return torch.nn.ParameterDict({name: torch.full((1,), self._start) for name in ("surprise", "entropy")})

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        tasks = {"surprise": -inputs.trainer_logprobs, "entropy": inputs.entropy}
        own = inputs.parameters
        per_token = sum((-own[name]).exp() * task + own[name] for name, task in tasks.items())
        return LossOutputs(per_token, {name: value.detach() for name, value in own.items()})


@loss(needs={"embedding"}, policy_gradient=False, sums_tokens=False)
class Probe:
    def trained(self, sizes):
        self.module = torch.nn.Linear(sizes.hidden_size, 1)
        return self.module

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        found = functional_call(self.module, inputs.parameters, (inputs.embedding,)).squeeze(-1)
        return LossOutputs((found - 1).square(), {"guess": Mean.of(found)})


class Misspelt:
    def __init__(self, name: str) -> None:
        self._name = name

    def trained(self, sizes: ModelSizes) -> torch.nn.Module:
        return torch.nn.ParameterDict({name: torch.zeros(1, dtype=sizes.dtype) for name in ("weight", "other")})

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        return LossOutputs(-inputs.trainer_logprobs * inputs.parameters[self._name])


class Wrong:
    def __init__(self, what: str = "") -> None:
        self._what = what
        if what == "made in the constructor":
            self.module = torch.nn.Linear(1, 1)

    def trained(self, sizes):
        zero = torch.zeros(1, dtype=sizes.dtype)
        parameter = torch.nn.ParameterDict({"p": zero})
        if self._what == "raises":
            raise ValueError("no idea")
        if self._what == "late":
            assert sizes.hidden_size == 8, "the real one"
        return {
            "a tensor": zero,
            "nothing": torch.nn.Tanh(),
            "frozen": torch.nn.ParameterDict({"p": zero}).requires_grad_(False),
            "scalar": torch.nn.ParameterDict({"p": zero[0]}),
            "half": torch.nn.ParameterDict({"p": zero.half()}),
            "lazy": torch.nn.LazyLinear(1),
            "empty": torch.nn.ParameterDict({"p": zero[:0]}),
            "infinite": torch.nn.ParameterDict({"p": zero / 0}),
            "buffer": torch.nn.Sequential(torch.nn.BatchNorm1d(2)),
            "by chance": torch.nn.ParameterDict({"p": zero + id(object()) % 1000 + __import__("time").perf_counter()}),
        }.get(self._what, parameter)

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        p = inputs.parameters["p"]
        if self._what == "detached":
            p = p.detach()
        if self._what == "in place":
            p += 1
        return LossOutputs(-inputs.trainer_logprobs * p.exp())


class NoArgument(Wrong):
    def trained(self):
        return torch.nn.Linear(1, 1)


class Attribute(Wrong):
    trained = True


class WithoutTrained:
    def __init__(self) -> None:
        self.module = torch.nn.Linear(1, 1)

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        return LossOutputs(-inputs.trainer_logprobs)
"""
UNCERTAIN = {"name": "plugins.py:Uncertainty"}
PROBE = {"name": "plugins.py:Probe"}


@pytest.fixture
def trains(write, run, tmp_path):
    def train_it(*losses, output_dir="run", **tables):
        write("plugins.py", PLUGINS)
        return run(loss=[{"name": "importance_sampling"}, *losses], output_dir=str(tmp_path / output_dir), **tables)

    return train_it


def test_the_parameters_are_learned_at_their_own_rate(trains):
    slow = trains(UNCERTAIN, max_steps=3).records
    fast = trains({**UNCERTAIN, "optimizer": {"lr": 0.1}}, max_steps=3, output_dir="fast").records
    at_first, later = fast[0], fast[-1]
    assert at_first["Uncertainty/surprise"] == at_first["Uncertainty/entropy"] == 0.0
    # The loss of an untrained model is above one nat, where exp(-s) L + s falls with s.
    assert later["Uncertainty/surprise"] == pytest.approx(0.2, rel=0.1)
    assert abs(slow[-1]["Uncertainty/surprise"]) < later["Uncertainty/surprise"] / 5


def test_weight_decay_is_their_own(trains):
    start = {**UNCERTAIN, "kwargs": {"start": 1.0}}
    optimizer = {"lr": 1e-3, "weight_decay": 100.0}
    decayed = trains({**start, "optimizer": optimizer}, max_steps=2).records[-1]["Uncertainty/surprise"]
    kept = trains(start, max_steps=2, optimizer=optimizer, output_dir="kept").records[-1]["Uncertainty/surprise"]
    assert decayed == pytest.approx(0.9, abs=0.005)
    assert kept == pytest.approx(1.0, abs=0.005)


def test_two_uses_of_one_loss_have_parameters_of_their_own(trains):
    own = [{**UNCERTAIN, "kwargs": {"start": start}} for start in (0.0, 1.0)]
    result = trains(*own, max_steps=1)
    assert result.records[0]["Uncertainty/surprise"] == 0.0
    assert result.records[0]["Uncertainty_2/surprise"] == 1.0
    saved = sorted(path.name for path in (result.model / "trained").iterdir())
    assert saved == ["Uncertainty.safetensors", "Uncertainty_2.safetensors"]


def test_a_run_repeats_itself_and_disturbs_no_other_random_number(trains):
    first, again = (trains(PROBE, max_steps=2, output_dir=f"run_{n}") for n in range(2))
    with_more = trains(UNCERTAIN, PROBE, max_steps=2, output_dir="more")
    assert first.records[-1]["Probe/guess"] == again.records[-1]["Probe/guess"]
    assert first.records[0]["Probe/guess"] == with_more.records[0]["Probe/guess"]
    assert first.records[0]["reward"] == with_more.records[0]["reward"]
    assert first.records[0]["entropy/mean"] == with_more.records[0]["entropy/mean"]


def test_they_are_saved_beside_the_policy_and_go_on_from_there(trains, caplog):
    first = trains({**UNCERTAIN, "optimizer": {"lr": 0.1}}, max_steps=2)
    saved = load_file(first.model / "trained" / "Uncertainty.safetensors")
    assert set(saved) == {"surprise", "entropy"}
    caplog.set_level("INFO", logger="plugrad")
    again = trains(UNCERTAIN, model={"name": str(first.model)}, max_steps=1, output_dir="again")
    assert "The parameters of the loss 'Uncertainty' go on from" in caplog.text
    assert again.records[0]["Uncertainty/surprise"] == pytest.approx(float(saved["surprise"]))


def test_saved_parameters_that_are_others_are_refused(trains):
    first = trains(UNCERTAIN, max_steps=1)
    path = first.model / "trained" / "Uncertainty.safetensors"
    good = load_file(path)
    for bad, told in (
        (
            {**good, "surprise": torch.zeros(2)},
            r"has not the parameters of .*'Uncertainty', which are entropy \[1\], surprise \[1\]: "
            r"it holds entropy \[1\], surprise \[2\]\. Delete it",
        ),
        ({"surprise": good["surprise"]}, r"has not the parameters.*: it holds surprise \[1\]\. Delete it"),
        ({**good, "entropy": torch.tensor([torch.nan])}, "numbers that are not finite. Delete it"),
    ):
        save_file(bad, path)
        with pytest.raises(ModelError, match=told):
            trains(UNCERTAIN, model={"name": str(first.model)}, max_steps=1, output_dir="again")


@pytest.mark.parametrize(
    ("what", "error", "told"),
    [
        ("a tensor", ContractError, "in its trained returned Tensor; it returns a torch.nn.Module. .*Write return"),
        ("nothing", ContractError, "returned Tanh without a parameter to train"),
        ("frozen", ContractError, "without a parameter to train"),
        ("scalar", ContractError, r"made the parameter 'p' of shape \(\).*Give it the shape \(1,\)"),
        ("half", ContractError, "made the parameter 'p' in float16.*dtype=sizes.dtype"),
        ("lazy", ContractError, "made the parameter 'weight' without a shape"),
        ("empty", ContractError, "holds no number"),
        ("infinite", ContractError, "numbers that are not finite"),
        ("buffer", ContractError, "made the buffer '0.running_mean'.*LayerNorm"),
        ("by chance", ContractError, "made other parameters when it was called again"),
        ("raises", ContractError, "in its trained raised ValueError: no idea"),
        ("late", ContractError, "in its trained raised AssertionError: the real one"),
        ("detached", ContractError, "and its value depends on none of them"),
        ("in place", ContractError, "changed .*in place"),
        ("made in the constructor", PluginError, r"self.module.weight.*made before `trained` was called"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(trains, what, error, told):
    with pytest.raises(error, match=f"(?s)'Wrong' .*{told}"):
        trains({"name": "plugins.py:Wrong", "kwargs": {"what": what}})


@pytest.mark.parametrize(
    ("loss", "error", "told"),
    [
        ({"name": "plugins.py:NoArgument"}, PluginError, "its trained cannot be called with the sizes of the model alone"),
        ({"name": "plugins.py:Attribute"}, PluginError, "an attribute 'trained' of type bool"),
        ({"name": "plugins.py:WithoutTrained"}, PluginError, r"make it in a method of the loss's class, trained\(self"),
        ({"name": "ppo_clip", "optimizer": {"lr": 1e-3}}, RunFileError, r"\[loss.optimizer\] for .*'ppo_clip'"),
        ({"name": "ppo_clip", "optimizer": {}}, RunFileError, "which has no parameters of its own"),
        ({**UNCERTAIN, "optimizer": {"lr": 0.0}}, RunFileError, "lr"),
        ({**UNCERTAIN, "optimizer": {"momentum": 0.9}}, RunFileError, "has no key 'momentum'"),
    ],
)
def test_what_does_not_fit_together_is_refused(trains, loss, error, told):
    with pytest.raises(error, match=told):
        trains(loss)


def test_in_a_loop_of_ones_own(write, tmp_path, monkeypatch):
    write("plugins.py", PLUGINS)
    monkeypatch.chdir(tmp_path)
    loss = plugrad.load("loss", "./plugins.py:Probe")
    module = loss.trained(ModelSizes(hidden_size=4, vocab_size=10, dtype=torch.float32))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    inputs = {
        "trainer_logprobs": torch.zeros(2, 3, requires_grad=True),
        "inference_logprobs": torch.zeros(2, 3),
        "advantages": torch.zeros(2, 3),
        "loss_mask": torch.ones(2, 3, dtype=torch.bool),
        "embedding": torch.ones(2, 4),
    }
    with pytest.raises(ContractError, match=r"parameters=dict\(module.named_parameters\(\)\)"):
        loss(BatchLossInputs(**inputs))
    for _ in range(20):
        found = loss(BatchLossInputs(**inputs, parameters=dict(module.named_parameters()))).loss
        found.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert module(torch.ones(4)).item() == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(PluginError, match="no method `trained`"):
        plugrad.load("loss", "ppo_clip").trained(ModelSizes(4, 10, torch.float32))


def test_a_misspelt_parameter_is_told_with_those_that_there_are(trains):
    told = r"the loss has no parameter 'wieght'\. Did you mean 'weight'\? It has \w+, \w+\."
    with pytest.raises(ContractError, match=told):
        trains({"name": "plugins.py:Misspelt", "kwargs": {"name": "wieght"}})


def test_a_parameter_that_the_trial_does_not_use_is_noted(trains, caplog):
    caplog.set_level("INFO", logger="plugrad")
    trains({"name": "plugins.py:Misspelt", "kwargs": {"name": "weight"}}, max_steps=1)
    assert "did not use its parameters ['other']" in caplog.text
