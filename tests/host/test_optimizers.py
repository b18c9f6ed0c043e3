"""The optimizer of a run file: which class is meant, which options it takes, and the trial before a model loads."""

import pytest
import torch

from plugrad import ContractError, OptionError, PluginError
from plugrad.config.tables.optimizer_table import OptimizerTable
from plugrad.host.bound_optimizer import bound_optimizer
from plugrad.host.optimizer_class import OF_TORCH
from plugrad.host.optimizer_trial import try_optimizer, why_not_sharded
from plugrad.registry.provenance import record

OWN = '''
import torch
from torch.optim import Optimizer


class Plain(Optimizer):
    """theta <- theta - lr * g, with what goes wrong in `wrong`."""

    def __init__(self, params, lr: float, scale: float = 1.0, wrong: str = ""):
        super().__init__(params, {"lr": lr, "scale": scale})
        self.wrong, self.updates = wrong, 0

    @torch.no_grad()
    def step(self, closure=None):
        self.updates += 1
        for group in self.param_groups:
            for p in group["params"]:
                p -= group["lr"] * group["scale"] * p.grad
                self.go_wrong(p)

    def go_wrong(self, p):
        if self.wrong == "kept outside":
            p *= self.updates
        elif self.wrong == "an object":
            self.state[p]["seen"] = self
        elif self.wrong == "of no parameter":
            self.state["all"]["seen"] = 1
        elif self.wrong == "the norm":
            p /= p.norm()
        elif self.wrong == "another shape":
            self.state[p]["sum"] = p.sum(-1, keepdim=True)
        elif self.wrong == "raises":
            raise RuntimeError("no gradient is good enough")


class WithoutRate(Optimizer):
    def __init__(self, params):
        super().__init__(params, {})


def no_class(params, lr):
    return Plain(params, lr)
'''


@pytest.fixture
def bound(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return lambda name="own.py:Plain", **keys: bound_optimizer(OptimizerTable(name=name, **keys), [tmp_path])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "adamw"}, r"no optimizer is called 'adamw'. Did you mean 'AdamW'\? torch.optim has ASGD, Adadelta, "),
        ({"name": "torch.optim.SGD"}, r"Did you mean 'SGD'\?"),
        ({"name": "LBFGS"}, "'LBFGS' .torch.optim. cannot train a policy: its step computes the loss again and again"),
        ({"name": "SparseAdam"}, "it takes sparse gradients alone"),
        ({"name": "other.py:Plain"}, "names a file that does not exist: 'other.py'. Looked in: "),
        ({"name": "own.py:Plane"}, r"has no 'Plane'. Did you mean 'Plain'\?"),
        ({"name": "own.py:no_class"}, "is no optimizer: it is not a class that inherits from torch.optim.Optimizer"),
        ({"name": "own.py:WithoutRate"}, "has no parameter `lr`"),
    ],
)
def test_names_that_mean_no_optimizer(bound, keys, message):
    with pytest.raises(PluginError, match=message):
        bound(**keys)


@pytest.mark.parametrize("name", ["bitsandbytes:AdamW8bit", "bitsandbytes.optim:Lion", "torchao.optim:AdamW8bit"])
def test_a_package_that_is_not_installed(bound, name, monkeypatch):
    monkeypatch.setattr("plugrad.host.optimizer_class.find_spec", lambda package: None)
    with pytest.raises(PluginError, match=f"not installed. To install it: pip install {name.split('.')[0].split(':')[0]}"):
        bound(name=name)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kwargs": {"momentom": 0.9}}, r"has no option 'momentom'. Did you mean 'momentum'\? It takes momentum=0, "),
        ({"kwargs": {"momentum": "0.9"}}, "the option 'momentum' is '0.9', which is not float"),
        ({"kwargs": {"weight_decay": 0.1}}, "weight_decay: it is a key of its own. Write optimizer.weight_decay"),
        ({"kwargs": {"lr": 0.1}}, "lr: it is the key optimizer.lr. Leave it out"),
        ({"kwargs": {"maximize": True}}, "maximize: a run minimises its losses"),
        (
            {"betas": [0.9, 0.95]},
            r"optimizer.betas is \[0.9, 0.95\], and .*'SGD' .torch.optim. takes no betas. Leave it out",
        ),
        ({"name": "Adafactor", "eps": 1e-6}, "takes another kind of eps. Leave it out, or set optimizer.kwargs.eps"),
        ({"name": "Rprop", "weight_decay": 0.1}, "takes no weight_decay"),
        ({"name": "own.py:Plain", "kwargs": {"scale": "much"}}, "the option 'scale' is 'much', which is not float"),
    ],
)
def test_options_that_a_class_does_not_take(bound, keys, message):
    with pytest.raises(OptionError, match=message):
        bound(**{"name": "SGD", **keys})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kwargs": {"nesterov": True}}, "'SGD' .* cannot be created with .*Nesterov momentum requires a momentum"),
        ({"name": "Muon", "kwargs": {"adjust_lr_fn": "other"}}, "Adjust learning rate function other is not supported"),
        ({"name": "own.py:Plain", "kwargs": {"wrong": "raises"}}, "raised RuntimeError: no gradient is good enough"),
    ],
)
def test_values_that_a_class_refuses(bound, keys, message):
    with pytest.raises(PluginError, match=message):
        try_optimizer(bound(**{"name": "SGD", **keys}), 60.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("kept outside", "does not go on as it was"),
        ("an object", "keeps 'seen' as plugrad_file_own_.*Plain, and checkpoints hold tensors, numbers and text"),
        ("of no parameter", "keeps state that belongs to no parameter"),
    ],
)
def test_state_that_no_checkpoint_brings_back(bound, wrong, message):
    with pytest.raises(ContractError, match=message):
        try_optimizer(bound(kwargs={"wrong": wrong}), 60.0)


@pytest.mark.parametrize("name", OF_TORCH)
def test_those_of_pytorch_can_be_saved(bound, name):
    try_optimizer(bound(name), 60.0)


def test_adam_with_moments_of_8_bits_can_be_saved(bound):
    pytest.importorskip("bitsandbytes")
    adam = bound("bitsandbytes:AdamW8bit")
    try_optimizer(adam, 60.0)
    matrix = torch.ones(64, 64).requires_grad_()
    made = adam.create([matrix], 0.1)
    matrix.grad = torch.ones(64, 64)
    made.step()
    assert torch.allclose(matrix, torch.full((64, 64), 0.9), atol=1e-3), "Adam's first step is lr"
    assert made.state[matrix]["state1"].dtype == torch.uint8


def test_torchaos_adamw_can_be_saved_and_its_states_of_8_bits_cannot(bound):
    pytest.importorskip("torchao.optim")
    compiled_s = 600.0
    try_optimizer(bound("torchao:_AdamW", kwargs={"bf16_stochastic_round": True}), compiled_s)
    with pytest.raises(ContractError, match=r"keeps 'exp_avg' as torchao.*OptimState8bit, and checkpoints hold tensors"):
        try_optimizer(bound("torchao:AdamW8bit"), compiled_s)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("", ""),
        ("the norm", "depends on the whole matrix"),
        ("another shape", "another shape, which is not sharded with it"),
    ],
)
def test_what_sharding_would_change_is_found_by_a_trial(bound, wrong, why):
    found = why_not_sharded(bound(kwargs={"wrong": wrong}))
    assert why in found
    assert bool(found) is bool(wrong)


def test_the_default_is_adamw_as_pytorch_has_it_but_for_the_decay(bound):
    found = bound("AdamW")
    assert found.keys == {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
    assert found.component.options == {"amsgrad": False, "foreach": None, "fused": None}
    assert found.rest is None


def test_what_is_not_given_is_as_the_class_has_it(bound):
    assert bound("Adagrad").keys == {"eps": 1e-10, "weight_decay": 0.0}
    assert bound("SGD").keys == {"weight_decay": 0.0}


def test_an_optimizer_of_matrices_has_another_for_the_rest(bound):
    found = bound("Muon", eps=1e-6, weight_decay=0.1, kwargs={"eps": 1e-5})
    assert (found.keys, found.component.options["eps"]) == ({"weight_decay": 0.1}, 1e-5)
    assert found.rest.cls is torch.optim.AdamW
    assert found.rest.keys == {"betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.1}


@pytest.mark.parametrize(
    "keys", [{"name": name} for name in OF_TORCH] + [{"name": "own.py:Plain", "kwargs": {"scale": 0.5}}]
)
def test_the_resolved_table_means_the_same(bound, keys):
    table = bound(**keys).filled(OptimizerTable(**keys))
    again = bound(**table.model_dump(exclude_none=True))
    assert again.filled(table) == table
    assert (again.keys, again.component.options) == (bound(**keys).keys, bound(**keys).component.options)


def test_the_record_has_the_source_of_ones_own_and_every_option(bound, tmp_path):
    (component,) = record([bound(kwargs={"scale": 0.5}).component])["components"]
    assert (component["kind"], component["location"]) == ("optimizer", str(tmp_path / "own.py"))
    assert component["options"] == {"scale": 0.5, "wrong": ""}
    assert len(component["sha256"]) == 64
