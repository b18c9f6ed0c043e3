"""`[optimizer]`: what is refused before anything is imported."""

import pytest
from transformers.trainer_utils import SchedulerType

from plugrad import RunFile, RunFileError
from plugrad.config.tables.optimizer_table import OF_A_NUMBER, OptimizerTable, Schedule


def run_file(**optimizer):
    return RunFile(model={"name": "a/model"}, environment={"name": "arithmetic"}, optimizer=optimizer)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"schedule": "cosin"}, r"optimizer.schedule: .* Did you mean 'cosine'\?"),
        ({"schedule": "reduce_lr_on_plateau"}, "optimizer.schedule: it follows a number that is measured during training"),
        ({"warmup_updates": 3, "warmup_ratio": 0.1}, "warmup_updates = 3 and warmup_ratio = 0.1 are two lengths"),
        ({"warmup_ratio": 1.5}, "optimizer.warmup_ratio: .*less than or equal to 1"),
        ({"no_decay": True}, "no_decay = true with weight_decay = 0 would change nothing"),
        ({"groups": [{"match": "*"}]}, "optimizer.groups: it sets neither lr nor weight_decay"),
        ({"groups": {"match": "re:(", "lr": 1.0}}, r"optimizer.groups.match: 're:\(' is no regular expression"),
        ({"groups": [{"match": "a", "lr": 1.0}, {"lr": 1.0}]}, "optimizer.groups.1.match is missing: The parameters"),
        ({"momentum": 0.9}, r"belongs under \[optimizer.kwargs\]: momentum = "),
    ],
)
def test_what_no_run_can_use(keys, message):
    with pytest.raises(RunFileError, match=message):
        run_file(**keys)


def test_the_schedules_are_those_of_transformers():
    assert {*Schedule.__args__, *OF_A_NUMBER} == {each.value for each in SchedulerType}


@pytest.mark.parametrize(("ratio", "updates"), [(0.0, 0), (0.1, 1), (0.11, 2), (1.0, 10)])
def test_a_share_of_the_updates_is_rounded_up(ratio, updates):
    assert OptimizerTable(warmup_ratio=ratio).num_warmup_updates(10) == updates


@pytest.mark.parametrize(
    ("match", "name", "matches"),
    [
        ("*.mlp.*", "model.layers.0.mlp.up_proj.weight", True),
        ("mlp.*", "model.layers.0.mlp.up_proj.weight", False),
        ("re:mlp", "model.layers.0.mlp.up_proj.weight", True),
        (r"re:layers\.[01]\.", "model.layers.11.mlp.up_proj.weight", False),
    ],
)
def test_a_pattern_is_for_the_whole_name_and_a_regular_expression_for_a_part(match, name, matches):
    (group,) = OptimizerTable(groups=[{"match": match, "lr": 1.0}]).groups
    assert bool(group.pattern.search(name)) is matches
