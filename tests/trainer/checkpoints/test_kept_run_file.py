"""The run file of a folder in which a run goes on: found in its checkpoint, with its paths as they are now; or an error."""

import json
import shutil

import pytest

from plugrad import ResumeError, RunFileError
from plugrad.config.reading import as_toml
from plugrad.trainer.checkpoints.checkpoint_folder import folder_of
from plugrad.trainer.checkpoints.kept_run_file import kept_run_file


@pytest.fixture
def project(tmp_path, run_file, write):
    """A project with the folder of a run in it, as far as going on reads it."""
    project = tmp_path / "project"
    run = project / "runs" / "one"
    write("project/mine.py", "def mine(inputs): ...\n")
    for name in ("sums.jsonl", "rewards.py"):
        (tmp_path / name).rename(project / name)
    kwargs = {"path": f"{project}/sums.jsonl", "reward": f"{project}/rewards.py:ones"}
    tables = {
        "output_dir": str(run),
        "search_paths": [str(project)],
        "environment": {"name": "jsonl", "kwargs": kwargs},
        "loss": [{"name": f"{project}/mine.py:mine"}],
        "extension": [{"name": "timing", "kwargs": {"file": f"{project}/is_made_later"}}],
    }
    environment = {"kind": "environment", "reference": "jsonl", "target": "jsonl:Jsonl", "files": {kwargs["path"]: "1f"}}
    for folder in (run, folder_of(run, 2)):
        folder.mkdir(parents=True)
        (folder / "run.toml").write_bytes(as_toml(run_file(**tables)))
        (folder / "plugins.json").write_text(json.dumps({"versions": {}, "components": [environment]}))
    (folder_of(run, 2) / "checkpoint.json").write_text("{}")
    return project


def paths_of(run_file):
    return [run_file.output_dir, *run_file.search_paths, *run_file.environment.kwargs.values(), run_file.loss[0].name]


def paths_in(project, run):
    return [str(run), str(project), f"{project}/sums.jsonl", f"{project}/rewards.py:ones", f"{project}/mine.py:mine"]


def test_it_is_the_one_in_the_folder(project):
    found = kept_run_file(project / "runs" / "one", ["max_steps=7"])
    assert (found.max_steps, paths_of(found)) == (7, paths_in(project, project / "runs" / "one"))


def test_a_folder_that_lost_its_run_file_has_the_one_of_its_newest_checkpoint(project, caplog):
    run = project / "runs" / "one"
    (run / "run.toml").unlink()
    folder_of(run, 3).mkdir()
    assert paths_of(kept_run_file(run, [])) == paths_in(project, run)
    assert "has no run.toml: the one of its checkpoint step_000002 is used" in caplog.text
    shutil.rmtree(folder_of(run, 2))
    with pytest.raises(RunFileError, match=r"holds no run: it has no run.toml, nor a checkpoint that holds one"):
        kept_run_file(run, [])


def test_a_project_that_moved_with_its_runs_is_found(project, tmp_path, caplog):
    project.rename(tmp_path / "moved")
    found = kept_run_file(tmp_path / "moved" / "runs" / "one", [])
    assert paths_of(found) == paths_in(tmp_path / "moved", tmp_path / "moved" / "runs" / "one")
    assert f"The project of this run has moved: {project} is now {tmp_path / 'moved'}, and 3 more" in caplog.text


def test_a_run_folder_that_moved_alone_stays_with_its_project(project, tmp_path):
    (project / "runs" / "one").rename(tmp_path / "one")
    assert paths_of(kept_run_file(tmp_path / "one", [])) == paths_in(project, tmp_path / "one")


def test_what_is_nowhere_is_named_and_search_paths_find_it(project, tmp_path):
    run = project / "runs" / "one"
    (project / "src").mkdir()
    for name in ("mine.py", "sums.jsonl"):
        (project / name).rename(project / "src" / name)
    with pytest.raises(
        ResumeError, match=rf"needs 2 paths .*:\n    {project}/mine.py\n    {project}/sums.jsonl\n.*search_pa"
    ):
        kept_run_file(run, [])
    found = kept_run_file(run, [f'search_paths=["{project}/src"]'])
    assert found.loss[0].name == f"{project}/src/mine.py:mine"
    assert list(found.environment.kwargs.values()) == [f"{project}/src/sums.jsonl", f"{project}/rewards.py:ones"]


@pytest.mark.parametrize(
    ("inside", "complaint"),
    [
        ("checkpoints/step_000002", r"is a checkpoint, .*: plugrad train --resume \S+/runs/one goes on from its newest"),
        ("checkpoints/step_000009", r"is a checkpoint"),
        ("checkpoints", r"holds the checkpoints of a run, .*: plugrad train --resume \S+/runs/one$"),
        ("..", r"holds no run: it has no run.toml"),
    ],
)
def test_a_folder_that_is_not_the_one_of_a_run_is_refused_with_the_one_to_give(project, inside, complaint):
    with pytest.raises(RunFileError, match=complaint):
        kept_run_file(project / "runs" / "one" / inside, [])
