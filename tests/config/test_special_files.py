"""A pipe, a socket, a device or a folder where a file belongs: refused at once, wherever a file is read or written."""

import os
import socket
from pathlib import Path

import pytest

from plugrad import PlugradError, RunFileError
from plugrad.compare.arms import arms_of
from plugrad.compare.checking import CheckedArm
from plugrad.compare.comparison import ComparisonOptions, Plan, run_comparison
from plugrad.compare.comparison_folder import ComparisonFolder
from plugrad.compare.planned_run import Outcome, PlannedRun, damage_of, read_records
from plugrad.compare.progress import last_record
from plugrad.config.run_file import RunFile
from plugrad.paths import open_bytes, read_bytes, read_text, write_bytes, write_text
from plugrad.policy.model_folder import check_files, read_json
from plugrad.registry.modules import source_of
from plugrad.registry.source_sums import sum_of
from plugrad.standard.environments.jsonl import Jsonl
from plugrad.trainer.record.metrics_file import MetricsFile
from plugrad.trainer.record.plugins_file import read_plugins
from plugrad.trainer.record.run_diff import EarlierRun

SPECIAL = r"this is no regular file but a (pipe|socket|device)|Is a directory"
TABLES = {"model": {"from_scratch": {"model_type": "qwen3"}}, "environment": {"name": "arithmetic"}, "search_paths": ["/"]}
OPTIONS = ComparisonOptions(Path("run.toml"))
KINDS = ("pipe", "socket", "folder", "device")


@pytest.fixture(params=KINDS)
def put(request, tmp_path, monkeypatch):
    """Put something special at a path below an empty folder."""
    monkeypatch.chdir(tmp_path)
    sockets = []

    def at(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "folder":
            path.mkdir()
        elif request.param == "device":
            path.symlink_to("/dev/zero")
        else:
            sockets.append(socket.socket(socket.AF_UNIX))
            # A socket's address is shorter than most paths here.
            monkeypatch.chdir(path.parent)
            sockets[-1].bind(path.name)
            monkeypatch.chdir(tmp_path)
        return path

    yield at
    for each in sockets:
        each.close()


@pytest.mark.parametrize(
    "use",
    [
        read_bytes,
        read_text,
        lambda path: write_text(path, "x"),
        lambda path: write_bytes(path, b"x"),
        *(lambda path, mode=mode: open_bytes(path, mode) for mode in ("rb", "wb", "ab", "a+b")),
    ],
)
def test_what_is_no_regular_file_is_not_opened(put, use):
    with pytest.raises(OSError, match=SPECIAL):
        use(put("it"))


def test_a_pipe_that_somebody_reads_is_not_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(OSError, match="no regular file but a pipe"):
            write_text(tmp_path / "pipe", "x")
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


def folder_of(put, name):
    """Put something special beside the other files of a run or a model."""
    folder = put(f"here/{name}").parent
    for other in ("run.toml", "plugins.json", "config.json"):
        if other != name:
            (folder / other).write_text("" if other == "run.toml" else "{}")
    return folder


READS = {
    "run file": lambda put: RunFile.load(put("run.toml")),
    "examples": lambda put: Jsonl(put("rows.jsonl")),
    "run.toml of --like": lambda put: EarlierRun.read(folder_of(put, "run.toml")),
    "plugins.json of --like": lambda put: EarlierRun.read(folder_of(put, "plugins.json")),
    "comparison.json": lambda put: ComparisonFolder(put("c/comparison.json").parent).earlier_arms(),
    "lock": lambda put: ComparisonFolder(put("c/.lock").parent).locked().__enter__(),
    "config.json": lambda put: read_json(folder_of(put, "config.json") / "config.json", "m"),
    "metrics.jsonl": lambda put: MetricsFile(put("run/metrics.jsonl").parent).write({"step": 1}),
    "a function": lambda put: __import__("plugrad").load("loss", f"{put('mine.py')}:f"),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_every_reader_says_so_at_once(put, read):
    with pytest.raises(PlugradError):
        read(put)


def test_a_template_of_a_model_is_checked_too(put):
    (put("m/additional_chat_templates/tool.jinja").parent.parent / "config.json").write_text("{}")
    if not os.path.isdir("m/additional_chat_templates/tool.jinja"):
        with pytest.raises(PlugradError, match=r"tool\.jinja in the model folder .* is a pipe, socket or device"):
            check_files("m")


def test_a_record_of_a_comparison_that_is_no_file_is_no_record(put, tmp_path):
    put("arm/seed-0/metrics.jsonl")
    put("arm/seed-0/outcome.json")
    run = PlannedRun("arm", 0, tmp_path / "arm" / "seed-0", tmp_path / "arm" / "run.toml", 1)
    assert run.outcome is None
    assert (read_records(run.folder), damage_of(run.folder), last_record(run.folder)) == ([], None, None)
    with pytest.raises(OSError, match=SPECIAL):
        run.write(Outcome(0, 1, 1.0))
    # Whatever they are, they are of an earlier run, and make room for the next.
    run.start_afresh()
    assert list(run.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["comparison.json.unfinished", "table.md.unfinished", "arm/run.toml", "arm"])
def test_a_comparison_writes_nothing_into_what_is_no_file(put, tmp_path, name):
    if not (put(f"c/{name}").is_dir() and name == "arm"):
        (tmp_path / "c" / "comparison.json").write_text('{"arms": {}}')
        with pytest.raises(
            RunFileError,
            match=r"the folder of the comparison, .* cannot be used: .*(no regular file|Is a dir|Not a dir|File exists)",
        ):
            run_comparison(OPTIONS, planned(tmp_path / "c"), None)


def planned(folder):
    """A comparison of one arm, as it is after its checks."""
    arms = arms_of([], ["arm:"])
    return Plan(arms, {"arm": CheckedArm(RunFile(**TABLES), {})}, [0], "arm", ComparisonFolder(folder))


@pytest.mark.parametrize("folder", ["file", "file/below", "x" * 300, "/".join(["x" * 200] * 30), "/proc/c", "/dev/null"])
def test_a_folder_of_a_comparison_that_cannot_be_made_is_an_error_of_ours(tmp_path, folder):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunFileError, match=r"the folder of the comparison, .*, cannot be used: .* --output-dir") as caught:
        run_comparison(OPTIONS, planned(tmp_path / folder), None)
    assert caught.value.exit_code == 2
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("in_the_way", ["arm", "arm/run.toml/x", "table.md/x", "comparison.json.unfinished/x"])
def test_something_in_the_way_of_a_comparison_is_named(tmp_path, in_the_way):
    (tmp_path / "c" / in_the_way).parent.mkdir(parents=True)
    (tmp_path / "c" / in_the_way).write_text("mine")
    (tmp_path / "c" / "comparison.json").write_text('{"arms": {}}')
    with pytest.raises(RunFileError, match=r"the folder of the comparison, .*/c, cannot be used: .*/c/\w+.*Move what is in"):
        run_comparison(OPTIONS, planned(tmp_path / "c"), None)
    assert (tmp_path / "c" / in_the_way).read_text() == "mine"


def test_a_record_that_is_no_file_says_so(put):
    with pytest.raises(ValueError, match=r"plugins\.json cannot be read: .*(no regular file|Is a directory)"):
        read_plugins(put("plugins.json"))


def test_a_source_that_is_no_file_has_no_digest_and_no_text(put, monkeypatch, tmp_path):
    path = put("a_module_of_this_test.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert sum_of(str(path)) is None
    assert source_of("a_module_of_this_test") is None
