"""Select: what a run file names, bound and held against the rest of the run file."""

import logging

import pytest

from plugrad import OptionError, PluginError, RunFile, RunFileError
from plugrad.host.select import resolved, select

WATCHING = """
from plugrad import metric

def free(inputs, scale: float = 1.0):
    return {"x": scale}

@metric(needs={"ref_logprobs"})
def far(inputs, scale: float = 1.0):
    return {"x": scale}

@metric(needs={"old_logprobs"})
def moved(inputs):
    return {"x": 1.0}

def demanding(inputs, threshold: float):
    return {"x": threshold}

class Unmakeable:
    def __init__(self):
        raise OSError("no licence")

    def __call__(self, inputs):
        return {}
"""


@pytest.fixture
def run_file(tmp_path):
    """Make a run file that looks for files in the test's folder."""

    def make(**tables):
        needed = {"model": {"name": "a/model"}, "environment": {"name": "arithmetic"}, "search_paths": [str(tmp_path)]}
        return RunFile(**{**needed, **tables})

    return make


@pytest.fixture
def watching(install):
    """Install a package of the metrics above."""
    install("plugrad-watching", "metrics", ["free", "far", "moved"], WATCHING)


def labels(selection):
    return [metric.label for metric in selection.metrics]


def test_every_component_is_there_in_the_order_of_the_run_file(run_file):
    selection = select(
        run_file(
            loss=[{"name": "ppo_clip"}, {"name": "entropy_bonus"}],
            metrics=["reward"],
            extension=[{"name": "timing"}, {"name": "nan_guard"}],
        )
    )
    assert [component.name for component in selection.components()] == [
        "arithmetic",
        "group_mean",
        "ppo_clip",
        "entropy_bonus",
        "reward",
        "timing",
        "nan_guard",
        "AdamW",
    ]


def test_needs_are_those_of_losses_and_metrics(run_file, watching):
    selection = select(run_file(loss=[{"name": "ppo_clip"}, {"name": "entropy_bonus"}], metrics=["far"]))
    assert selection.loss_needs == {"old_logprobs", "entropy"}
    assert selection.needs == {"old_logprobs", "entropy", "ref_logprobs"}


def test_a_loss_has_its_weight_and_its_reduction(run_file, write):
    write(
        "mine.py",
        """
        from plugrad import loss, LossOutputs

        @loss(reduction="sequence")
        def declared(inputs): ...

        def silent(inputs): ...
        """,
    )
    tables = [
        {"name": "mine.py:declared"},
        {"name": "mine.py:declared", "reduction": "group", "weight": 0.5},
        {"name": "mine.py:silent"},
    ]
    losses = select(run_file(loss=tables)).losses
    assert [(loss.reduction, loss.weight) for loss in losses] == [("sequence", 1.0), ("group", 0.5), ("token", 1.0)]


def test_two_uses_of_one_loss_have_two_labels(run_file, write):
    write("mine.py", "def entropy_bonus_2(inputs): ...")
    names = ["entropy_bonus", "entropy_bonus", "mine.py:entropy_bonus_2", "entropy_bonus", "ppo_clip"]
    found = [loss.label for loss in select(run_file(loss=[{"name": name} for name in names])).losses]
    assert (found[0], found[1], found[-1]) == ("entropy_bonus", "entropy_bonus_2", "ppo_clip")
    assert len(set(found)) == len(names)


def test_a_wrong_option_is_found_before_anything_runs(run_file):
    with pytest.raises(
        OptionError, match=r"\[advantage\] 'group_normalized' \(plugrad .*\) has no option 'epss'\. Did you mean 'eps'\?"
    ):
        select(run_file(advantage={"name": "group_normalized", "kwargs": {"epss": 1.0}}))


def test_a_package_in_a_search_path_is_refused(run_file, install, tmp_path):
    install("plugrad-planted", "losses", ["planted"], "def planted(inputs): ...")
    with pytest.raises(PluginError, match=r"plugrad-planted 1\.0 offers it, but is in"):
        select(run_file(loss={"name": "planted"}, search_paths=[str(tmp_path / "site")]))


def test_a_loss_with_a_teacher_term_needs_a_teacher(run_file):
    distilling = {"name": "importance_sampling", "kwargs": {"teacher_tau": 0.1}}
    with pytest.raises(
        RunFileError, match=r"'importance_sampling' \(plugrad .*\) needs teacher_logprobs, .* \[model\.teacher\]"
    ):
        select(run_file(loss=distilling))
    assert select(run_file(loss=distilling, model={"name": "a", "teacher": {"name": "b"}})).needs >= {"teacher_logprobs"}
    assert "teacher_logprobs" not in select(run_file(loss={**distilling, "kwargs": {"teacher_tau": 0.0}})).needs


def test_a_teacher_that_no_loss_needs_is_warned_of(run_file, caplog):
    model = {"name": "a", "teacher": {"name": "b"}}
    select(run_file(loss={"name": "importance_sampling", "kwargs": {"teacher_tau": 0.1}}, model=model))
    assert "teacher" not in caplog.text
    assert "teacher_logprobs" not in select(run_file(loss={"name": "ppo_clip"}, model=model)).needs
    assert "[model.teacher] is not loaded: nothing needs teacher_logprobs" in caplog.text


def test_an_advantage_that_compares_needs_rollouts_to_compare(run_file):
    lonely = {"rollouts_per_example": 1}
    with pytest.raises(RunFileError, match=r"'group_normalized' .* at least 2 rollouts per example, .*_per_example is 1\."):
        select(run_file(advantage={"name": "group_normalized"}, rollout=lonely))
    assert select(run_file(advantage={"name": "constant"}, rollout=lonely)).advantage.component.name == "constant"


def test_all_installed_metrics_run_but_those_that_would_cost_a_pass(run_file, watching, caplog):
    with caplog.at_level(logging.INFO, "plugrad"):
        found = labels(select(run_file()))
    assert {"reward", "entropy", "free", "moved"} <= set(found)
    assert "far" not in found
    (notice,) = [message for message in caplog.messages if "'far'" in message]
    assert notice.startswith("Skipping the metric 'far' (plugrad-watching 1.0): it needs ref_logprobs")


def test_a_metric_is_free_where_a_loss_pays_for_it(run_file, watching):
    assert "far" in labels(select(run_file(loss={"name": "kl_to_reference"})))


def test_old_logprobs_are_free_while_there_is_one_update_per_batch(run_file, watching):
    assert "moved" not in labels(select(run_file(updates_per_batch=2)))
    assert "moved" in labels(select(run_file(updates_per_batch=2, loss={"name": "ppo_clip"})))


def test_a_list_of_metrics_is_what_runs_and_is_paid_for(run_file, watching):
    selection = select(run_file(metrics=["far", "plugrad/reward", "far"]))
    assert labels(selection) == ["far", "reward", "far_2"]
    assert "ref_logprobs" in selection.needs
    assert labels(select(run_file(metrics=[]))) == []


def test_a_metric_table_adds_to_a_list(run_file, watching):
    selection = select(run_file(metrics=["reward"], metric={"name": "free", "kwargs": {"scale": 3.0}}))
    assert labels(selection) == ["free", "reward"]
    assert selection.metrics[0].component.options == {"scale": 3.0}


def test_a_metric_table_takes_the_place_of_the_same_metric_among_all(run_file, watching):
    selection = select(run_file(metric={"name": "free", "kwargs": {"scale": 3.0}}))
    assert labels(selection).count("free") == 1
    assert "free_2" not in labels(selection)
    assert selection.metrics[labels(selection).index("free")].component.options == {"scale": 3.0}


def test_a_metric_table_was_asked_for_and_is_paid_for(run_file, watching):
    selection = select(run_file(metric={"name": "far", "kwargs": {"scale": 3.0}}))
    assert "far" in labels(selection)
    assert "ref_logprobs" in selection.needs


def test_a_metric_table_gives_a_required_option_without_a_warning(run_file, install, caplog):
    install("plugrad-watching", "metrics", ["demanding"], WATCHING)
    with caplog.at_level(logging.WARNING, "plugrad"):
        found = labels(select(run_file(metric={"name": "demanding", "kwargs": {"threshold": 0.5}})))
    assert found.count("demanding") == 1
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise RuntimeError('no licence')", "cannot be imported: RuntimeError: no licence"),
        (WATCHING.replace("Unmakeable", "broken"), "cannot be created with its defaults: OSError: no licence"),
        (WATCHING.replace("demanding", "broken"), "needs the option threshold (required, float)"),
        ("broken = 3", "is not callable"),
        ("from plugrad import loss\n@loss()\ndef broken(inputs): ...", "marked with @loss"),
    ],
    ids=["import", "constructor", "options", "not callable", "marker"],
)
def test_a_broken_metric_among_all_is_a_warning(run_file, install, caplog, code, reason):
    install("plugrad-broken", "metrics", ["broken"], code)
    with caplog.at_level(logging.WARNING, "plugrad"):
        found = labels(select(run_file()))
    assert "reward" in found
    assert "broken" not in found
    (warning,) = caplog.messages
    assert warning.startswith("Skipping a metric: ")
    assert reason in warning
    with pytest.raises(PluginError) as caught:
        select(run_file(metrics=["broken"]))
    assert reason in str(caught.value)


def test_the_resolved_run_file_writes_every_option(run_file, watching, write, tmp_path):
    file = write("mine.py", "def zigzag(inputs, clip: float = 0.5, range: tuple[float, float] = (0.0, 1.0)): ...")
    original = run_file(
        loss=[{"name": "./mine.py:zigzag", "kwargs": {"clip": 1}}, {"name": "kl_to_reference"}],
        metric={"name": "free"},
        extension={"name": "nan_guard"},
        environment={"name": "arithmetic", "kwargs": {"digits": 1}},
    )
    written = resolved(original, select(original))
    assert [(loss.name, loss.kwargs, loss.reduction) for loss in written.loss] == [
        (f"{file}:zigzag", {"clip": 1.0, "range": [0.0, 1.0]}, "token"),
        ("kl_to_reference", {"estimator": "k3"}, "token"),
    ]
    assert (written.advantage.name, written.advantage.kwargs) == ("group_mean", {})
    assert written.environment.kwargs == {"digits": 1, "reverse": False, "num_eval": 512, "seed": 0}
    assert [table.kwargs for table in written.extension] == [{"action": "skip", "max_skips": 20}]
    assert [table.kwargs for table in written.metric] == [{"scale": 1.0}]


def test_what_was_resolved_resolves_to_itself(run_file, watching, write):
    write("mine.py", "def zigzag(inputs, clip: float = 0.5): ...")
    original = run_file(
        loss=[{"name": "mine.py:zigzag", "weight": 0.5}], rollout={"engine": "dataset"}, metric={"name": "free"}
    )
    written = resolved(original, select(original))
    assert resolved(written, select(written)) == written
    assert (written.loss[0].weight, written.advantage.kwargs) == (0.5, {"value": 1.0})


@pytest.mark.parametrize(
    ("losses", "advantage", "learns"),
    [
        (["ppo_clip"], "group_normalized", True),
        (["ppo_clip", "entropy_bonus"], "group_normalized", True),
        (["cross_entropy"], "group_normalized", False),
        (["ppo_clip", "cross_entropy"], "group_normalized", False),
        (["ppo_clip"], "constant", False),
    ],
)
def test_equal_rewards_leave_nothing_to_learn_where_no_loss_has_another_signal(run_file, losses, advantage, learns):
    selection = select(run_file(loss=[{"name": name} for name in losses], advantage={"name": advantage}))
    assert selection.learns_from_rewards is learns
