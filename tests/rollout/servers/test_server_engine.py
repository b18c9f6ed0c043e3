"""The engine with a server that has vLLM's routes and no model: weights get there, and requests get none before."""

import pytest
import torch

from plugrad.config.tables.server_table import ServerTable
from plugrad.errors import EngineError
from plugrad.rollout.engine import Prompt, Sampling
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.servers.server_checks import PROBE_TEXT
from plugrad.rollout.servers.server_engine import ServerEngine
from plugrad.testing.models import tiny_model, tiny_tokenizer

from .conftest import STOP, good_response

MODEL, TOKENIZER = tiny_model(), tiny_tokenizer()
WEIGHTS = [(name, weight.detach()) for name, weight in MODEL.state_dict(keep_vars=True).items()]
PROMPTS = [Prompt("p", [7], {})]
SAMPLING = Sampling(num_completions=2, max_new_tokens=3, temperature=1.0, seed=0)


class VllmRoutes:
    """Responds as vLLM 0.32 does. `label` is the label of its weights, `load_status` the status of loading any."""

    def __init__(self):
        self.label, self.is_paused, self.num_loads, self.load_status = "default", False, 0, 200

    def __call__(self, handler, body):
        path = handler.path.partition("?")[0]
        status, content = getattr(self, "on_" + path.strip("/").replace("/", "_"))(body)
        handler.answer(content, status)

    def on_health(self, body):
        return 200, b""

    def on_version(self, body):
        return 200, {"version": "0.32.0"}

    def on_v1_models(self, body):
        return 200, {"data": [{"id": "served", "root": "org/model", "max_model_len": 64}]}

    def on_tokenize(self, body):
        return 200, {"tokens": TOKENIZER(PROBE_TEXT, add_special_tokens=False)["input_ids"]}

    def on_server_info(self, body):
        model = {"logprobs_mode": "processed_logprobs", "dtype": "torch.float32"}
        return 200, {"vllm_config": {"model_config": model}, "vllm_env": {"VLLM_PLUGINS": [""]}}

    def on_inference_v1_generate(self, body):
        if not body:
            return 400, {"error": {"message": "2 validation errors"}}
        return 200, good_response(body, label=self.label)

    def on_pause(self, body):
        self.is_paused = True
        return 200, b""

    def on_resume(self, body):
        self.is_paused = False
        return 200, b""

    def on_is_paused(self, body):
        return 200, {"is_paused": self.is_paused}

    def on_weight_info(self, body):
        return 200, {"weight_version": self.label}

    def on_update_weight_version(self, body):
        self.label = body["new_version"]
        return 200, b""

    def on_reset_prefix_cache(self, body):
        return 200, b""

    def on_collective_rpc(self, body):
        assert self.is_paused
        assert self.label.endswith("-unfinished")
        self.num_loads += body["method"] == "reload_weights"
        return self.load_status, {"error": {"message": "no such folder"}}


@pytest.fixture
def open_engine(listen, tmp_path):
    """Open an engine with servers that have these routes; it is closed at the end."""
    engines = []

    def make(*routes):
        table = ServerTable(addresses=[listen(each).address for each in routes], retries=0)
        model = EngineModel("org/model", MODEL.config, TOKENIZER, torch.float32, frozenset({STOP}), 64)
        engines.append(ServerEngine(table, model, folder=tmp_path))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def test_servers_load_each_version_and_complete_prompts_with_it(open_engine):
    routes = [VllmRoutes(), VllmRoutes()]
    engine = open_engine(*routes)
    for version in range(2):
        engine.update_weights(WEIGHTS, version)
        [group] = engine.generate(PROMPTS, SAMPLING)
        assert [completion.policy_versions for completion in group] == [[version] * 3] * 2
    assert [each.num_loads for each in routes] == [2, 2]
    assert not any(each.is_paused for each in routes)


def test_a_server_that_cannot_load_gets_no_requests(open_engine, caplog):
    routes = [VllmRoutes(), VllmRoutes()]
    engine = open_engine(*routes)
    routes[0].load_status = 500
    engine.update_weights(WEIGHTS, 0)
    assert f"{engine.addresses[0]} did not load the weights of version 0: it could not load the weights in" in caplog.text
    assert "POST /collective_rpc returned 500: 'no such folder'" in caplog.text
    assert not routes[0].is_paused
    assert len(engine.generate(PROMPTS * 4, SAMPLING)) == 4
    assert [server.is_active for server in engine._balancer.servers] == [False, True]


def test_when_no_server_loads_the_weights_the_error_names_each(open_engine):
    routes = VllmRoutes()
    engine = open_engine(routes)
    routes.load_status = 500
    with pytest.raises(
        EngineError, match=rf"no server loaded the weights of version 0:\n    {engine.addresses[0]}: it could not"
    ):
        engine.update_weights(WEIGHTS, 0)


def test_a_restarted_server_that_is_the_last_one_loads_the_weights_again(open_engine, caplog):
    routes = VllmRoutes()
    engine = open_engine(routes)
    engine.update_weights(WEIGHTS, 0)
    routes.label = "default"
    with pytest.raises(EngineError, match="failed after 1 attempt:"):
        engine.generate(PROMPTS, SAMPLING)
    [group] = engine.generate(PROMPTS, SAMPLING)
    assert [completion.policy_versions for completion in group] == [[0] * 3] * 2
    assert "had the weights 'default' and has loaded this run's again" in caplog.text


def test_a_closed_engine_completes_nothing_and_leaves_no_weights(open_engine, tmp_path):
    engine = open_engine(VllmRoutes())
    engine.update_weights(WEIGHTS, 0)
    assert list((tmp_path / "weights").glob("*/*-v0"))
    engine.close()
    assert not (tmp_path / "weights").exists()
    with pytest.raises(EngineError, match="is closed"):
        engine.generate(PROMPTS, SAMPLING)
