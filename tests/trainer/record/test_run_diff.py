"""An earlier run: what it left, also beside its model, and how a new one differs."""

import json
import shutil

import pytest

import plugrad
from plugrad import RunFile, RunFileError
from plugrad.trainer.record.display import Silent
from plugrad.trainer.record.run_diff import Difference, EarlierRun


class Remembers(Silent):
    """A display that keeps the differences, and checks that they come before the model is loaded."""

    def __init__(self):
        self.told = []
        self.loaded = False

    def show_differences(self, earlier, differences):
        assert not self.loaded
        self.told.append((earlier, differences))

    def start(self, run, num_parameters):
        self.loaded = True


@pytest.fixture
def first(run):
    """The folder of a run of one step."""
    return run(max_steps=1).folder


@pytest.fixture
def again(run_file, tmp_path):
    """Train once more, like an earlier run; return what differs."""

    def train_it(earlier, **tables):
        display = Remembers()
        second = run_file(**{"max_steps": 1, "output_dir": str(tmp_path / "second"), **tables})
        plugrad.train(second, overwrite=True, like=earlier, display=display)
        ((folder, differences),) = display.told
        assert folder == earlier
        return differences

    return train_it


def edit(folder, change):
    recorded = json.loads((folder / "plugins.json").read_text())
    change(recorded)
    (folder / "plugins.json").write_text(json.dumps(recorded))


def component(recorded, kind):
    return next(each for each in recorded["components"] if each["kind"] == kind)


def test_nothing_differs_from_the_same_run(first, again):
    assert again(first) == []


def test_the_record_travels_with_the_model(first, again, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.move(first / "model", moved)
    shutil.rmtree(first)
    assert json.loads((moved / "plugins.json").read_text())["versions"]["plugrad"] == plugrad.__version__
    assert again(moved) == []


def test_a_model_is_saved_also_where_the_record_was_deleted(run, write):
    write(
        "deletes.py",
        """
        import plugrad

        class Deletes:
            @plugrad.hookimpl
            def on_run_start(self, run):
                (run.folder / "plugins.json").unlink()
    """,
    )
    model = run(max_steps=1, extension=[{"name": "deletes.py:Deletes"}]).model
    assert (model / "model.safetensors").exists()
    assert (model / "run.toml").exists()


def test_what_the_new_run_sets_otherwise_is_said(first, again):
    differences = again(first, seed=5, optimizer={"lr": 1e-3, "betas": [0.8, 0.99]})
    assert differences == [Difference("seed", 0, 5), Difference("optimizer.betas", [0.9, 0.999], [0.8, 0.99])]


def test_other_components_and_options_are_said_once(first, again):
    differences = again(first, loss={"name": "ppo_clip", "weight": 0.5}, advantage={"name": "group_normalized"})
    said = {difference.what: (difference.then, difference.now) for difference in differences}
    owner = f"plugrad {plugrad.__version__}"
    assert said == {
        "loss importance_sampling": (owner, None),
        "loss ppo_clip": (None, owner),
        "advantage group_mean": (owner, None),
        "advantage group_normalized": (None, owner),
        "loss.0.weight": (1.0, 0.5),
    }


def test_an_option_is_said(first, again):
    kwargs = {"path": "sums.jsonl", "reward": "rewards.py:ones", "num_eval": 4}
    assert again(first, environment={"name": "jsonl", "kwargs": kwargs}) == [Difference("environment jsonl: num_eval", 8, 4)]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda recorded: recorded["versions"].update(torch="1.0"), "version of torch"),
        (lambda recorded: recorded["versions"].update(vllm="0.1"), "version of vllm"),
        (lambda recorded: recorded.update(num_processes=8), "number of processes"),
        (lambda recorded: recorded.update(origin={"url": "file:///another/place"}), "origin of plugrad"),
        (
            lambda recorded: component(recorded, "loss").update(sha256="0" * 64),
            "loss importance_sampling: sha256 of its source",
        ),
        (lambda recorded: recorded["modules"].update({"rewards.py": "0" * 64}), "module rewards.py"),
        (lambda recorded: component(recorded, "loss").update(version="0.0.1"), "loss importance_sampling: version"),
        (lambda recorded: component(recorded, "loss").update(package="plugrad-alice"), "loss importance_sampling: package"),
        (
            lambda recorded: component(recorded, "loss").update(
                origin={"url": "https://example.org/a.git", "vcs_info": {"commit_id": "4f1c0de"}}
            ),
            "loss importance_sampling: origin",
        ),
    ],
)
def test_what_is_installed_otherwise_is_said(first, again, change, what):
    edit(first, change)
    (difference,) = again(first)
    assert difference.what == what
    assert difference.then != difference.now


def test_an_origin_is_said_with_its_commit(first, again):
    edit(first, lambda recorded: recorded.update(origin={"url": "git+x", "vcs_info": {"commit_id": "4f1c0de"}}))
    assert again(first)[0].then == "git+x (4f1c0de)"


def test_a_file_of_ones_own_is_compared_by_what_is_in_it_and_not_by_where_it_lies(run, run_file, again, write, tmp_path):
    code = "from plugrad import LossOutputs\n\n\ndef mine(inputs):\n    return LossOutputs(-inputs.trainer_logprobs)\n"
    write("mine.py", code)
    first = run(max_steps=1, loss={"name": "mine.py:mine"}).folder
    write("moved/mine.py", code)
    assert again(first, loss={"name": "moved/mine.py:mine"}) == []
    write("mine.py", code.replace("-inputs", "-2 * inputs"))
    write("changed/mine.py", code.replace("-inputs", "-2 * inputs"))
    (difference,) = again(first, loss={"name": "changed/mine.py:mine"})
    assert difference.what == "loss mine.py:mine: sha256 of its source"


def test_what_an_older_plugrad_did_not_record_is_not_compared(first, again):
    def make_older(recorded):
        for key in ("origin", "num_processes", "modules"):
            del recorded[key]
        for key in ("python", "vllm"):
            del recorded["versions"][key]
        for each in recorded["components"]:
            del each["origin"]

    edit(first, make_older)
    text = (first / "run.toml").read_text()
    (first / "run.toml").write_text(text.replace("[plugins]\ndisable = []\n", ""))
    assert (first / "run.toml").read_text() != text
    assert again(first) == []


def test_a_run_file_with_keys_that_there_are_no_more_is_still_compared(first, again):
    (first / "run.toml").write_text("an_old_key = 3\n" + (first / "run.toml").read_text())
    assert again(first) == [Difference("an_old_key", 3, None)]


NO_RECORD = r"plugins\.json is not the record of a run"


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (shutil.rmtree, "there is no such folder"),
        (lambda folder: (folder / "run.toml").unlink(), r"it has no run\.toml\. Give the folder of a run"),
        (lambda folder: (folder / "plugins.json").unlink(), r"it has no plugins\.json"),
        (lambda folder: (folder / "run.toml").write_text("= ="), "Invalid"),
        (lambda folder: (folder / "plugins.json").write_text("{"), "Expecting"),
        (lambda folder: (folder / "plugins.json").write_text("[]"), NO_RECORD),
        (
            lambda folder: (folder / "plugins.json").write_text('{"versions": {}, "components": [{}]}'),
            NO_RECORD,
        ),
    ],
)
def test_a_folder_that_holds_no_run_is_refused_before_anything_is_done(first, run_file, tmp_path, spoil, complaint):
    spoil(first)
    with pytest.raises(RunFileError, match=f"a run cannot be compared with {first}: .*{complaint}"):
        EarlierRun.read(first)
    with pytest.raises(RunFileError, match=complaint):
        plugrad.train(run_file(output_dir=str(tmp_path / "second")), like=first, display=Silent())
    assert not (tmp_path / "second").exists()


def test_the_folder_may_be_the_one_that_is_replaced(first, run_file):
    display = Remembers()
    plugrad.train(run_file(max_steps=1, seed=1), overwrite=True, like=first, display=display)
    assert display.told == [(first, [Difference("seed", 0, 1)])]


def test_its_run_file_repeats_it(first, tmp_path):
    repeated = RunFile.load(EarlierRun.read(first).run_file, [f"output_dir='{tmp_path / 'repeated'}'"])
    display = Remembers()
    plugrad.train(repeated, like=first, display=display)
    assert display.told == [(first, [])]
