"""Where the model goes if the run folder takes it no more, and what is told when memory or the output is gone."""

import io

import pytest
import torch

import plugrad
from plugrad import TrainingError
from plugrad.rollout.transformers_engine import TransformersEngine
from plugrad.trainer.lack_of_memory import lacks_memory
from plugrad.trainer.record.display import Silent
from plugrad.trainer.record.save import SavedElsewhereError, save_model


def write_model(path):
    path.mkdir(exist_ok=True)
    (path / "weights").write_text("learnt")


@pytest.fixture
def no_folder(tmp_path, monkeypatch):
    """A run folder that somebody replaced by a file, in a folder of its own; another one is for temporary files."""
    for name in ("runs", "here", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "runs" / "run").write_text("in the way")
    return tmp_path / "runs" / "run"


@pytest.mark.parametrize("place", ["runs", "here", "temporary"])
def test_a_model_that_the_run_folder_does_not_take_is_saved_in_the_next_place(no_folder, tmp_path, place):
    def save(path):
        if path.parent.name != place:
            raise OSError(28, "No space left on device")
        write_model(path)

    with pytest.raises(
        SavedElsewhereError, match=r"cannot be saved in .*/run: .* instead, whole. Make room, then move it: mv"
    ) as told:
        save_model(no_folder, save)
    (elsewhere,) = (tmp_path / place).glob("run-model-*")
    assert f"It is in {elsewhere} instead" in str(told.value)
    assert (elsewhere / "weights").read_text() == "learnt"
    assert len(list(tmp_path.rglob("*-model-*"))) == 1, "nothing is left where it did not work"


def test_a_model_that_nobody_takes_is_lost_with_every_place_named(no_folder, tmp_path):
    def save(path):
        raise OSError(28, "No space left on device")

    with pytest.raises(TrainingError, match="Make room, or choose another output_dir") as told:
        save_model(no_folder, save)
    assert all(str(tmp_path / place) in str(told.value) for place in ("runs", "here", "temporary"))
    assert not list(tmp_path.rglob("*-model-*"))


REPLACES_THE_FOLDER = """
    import shutil
    import plugrad

    class Replaces:
        @plugrad.hookimpl
        def on_step_end(self, step):
            if step == 2:
                shutil.rmtree({folder!r})
                open({folder!r}, "w").close()
"""


@pytest.mark.parametrize("max_steps", [2, 3])
def test_a_run_whose_folder_is_gone_keeps_what_was_learnt(run_file, write, tmp_path, max_steps, caplog):
    """At the end, and where the next record cannot be written."""
    write("replaces.py", REPLACES_THE_FOLDER.format(folder=str(tmp_path / "run")))
    with pytest.raises(TrainingError) as told:
        plugrad.train(run_file(max_steps=max_steps, extension=[{"name": "replaces.py:Replaces"}]), display=Silent())
    (elsewhere,) = tmp_path.glob("run-model-*")
    assert (elsewhere / "config.json").is_file()
    assert f"It is in {elsewhere} instead" in (str(told.value) if max_steps == 2 else caplog.text)
    assert told.value.exit_code == 1


def test_a_link_in_place_of_the_model_is_replaced_and_told(tmp_path, caplog):
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "model").symlink_to(tmp_path / "elsewhere")
    model = save_model(tmp_path / "run", write_model)
    assert (model / "weights").is_file()
    assert not list((tmp_path / "elsewhere").iterdir())
    assert "was a symbolic link: the model takes its place" in caplog.text


ERRORS = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory"),
    torch.OutOfMemoryError("CUDA out of memory."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_run_that_runs_out_of_memory_while_it_samples_keeps_its_model(run_file, monkeypatch, error, caplog):
    generate = TransformersEngine.generate

    def runs_out(engine, prompts, sampling):
        # The groups of a step, and not the single completions of the parity check.
        if sampling.num_completions == 4 and next(steps, None) is None:
            raise error
        return generate(engine, prompts, sampling)

    steps = iter(range(2))
    monkeypatch.setattr(TransformersEngine, "generate", runs_out)
    with pytest.raises(TrainingError, match=r"out of memory.* Lower tokens_per_micro_batch") as told:
        plugrad.train(run_file(), display=Silent())
    assert told.value.exit_code == 1
    assert "The model as it was after the last step is saved in" in caplog.text


def test_a_model_that_does_not_fit_is_told_before_training(run_file, monkeypatch):
    def runs_out(*_, **__):
        raise MemoryError

    monkeypatch.setattr("plugrad.trainer.preparation.load_model", runs_out)
    with pytest.raises(TrainingError, match=r"the machine is out of memory\. Lower") as told:
        plugrad.train(run_file(), display=Silent())
    assert told.value.exit_code == 2


def test_other_errors_are_no_lack_of_memory():
    assert not lacks_memory(RuntimeError("shapes differ"))
    assert not lacks_memory(ValueError("not enough memory"))


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_full_disk_under_standard_output_does_not_end_a_run(run_file, monkeypatch, caplog):
    monkeypatch.setattr("sys.stdout", Full())
    result = plugrad.train(run_file(max_steps=1))
    assert result.num_steps == 1
    assert (result.model / "config.json").is_file()
    assert "Standard output cannot be written: [Errno 28]" in caplog.text
