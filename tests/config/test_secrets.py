"""A run file holds no secret: it is recorded in the run folder and beside the model. The message never repeats one."""

import json

import pytest

from plugrad import RunFile, RunFileError
from plugrad.config.override import Override
from plugrad.config.tables.component_tables import EnvironmentTable
from plugrad.config.tables.server_table import ServerTable
from plugrad.registry.provenance import without_secrets
from plugrad.secret_texts import find_secret

SECRET = "Zq8vLw3RtY7uPd5sXk2n"
REFUSED = [
    ["--api-key", SECRET],
    [f"--api-key={SECRET}"],
    [f"--api_key={SECRET}"],
    ["--API-KEY", SECRET],
    ["--api-k", SECRET],
    ["--api", SECRET],
    ["--hf-token", SECRET],
    [f"--hf_token={SECRET}"],
    ["--some-password", SECRET],
    ["--client-secret", SECRET],
    ["--tensor-parallel-size", "2", "--token", SECRET],
    ["--any", f"hf_{SECRET}"],
    [f"--any=hf_{SECRET}"],
    ["--any", f"https://me:{SECRET}@host/x"],
    ["--headers", f'{{"Authorization": "Bearer {SECRET}"}}'],
    [f"--aws-secret-access-key={SECRET}"],
    ["--ssl-keyfile-passphrase", SECRET],
    ["--ssl-keyfile-password", f"-{SECRET}"],
    ["--kv-transfer-config", json.dumps({"extra": [{"api_key": SECRET}]})],
    ["--kv-transfer-config", f"{{'api_key': '{SECRET}'}}"],
    [f"--kv-transfer-config.password={SECRET}"],
    [f"--otlp-traces-endpoint=https://h/x?token={SECRET}"],
    [f"--endpoint=https://h/x?a=b&X-Amz-Signature={SECRET}"],
    [f"--endpoint=https://h/x#access_token={SECRET}"],
    ["--header", f"Authorization: Basic {SECRET}"],
    ["--header", f"X-Api-Key: {SECRET}"],
    ["--header", f"Cookie: session={SECRET}"],
    ["--store", f"Server=h;Password={SECRET}"],
    ["--store", f"redis://:{SECRET}@host:1/0"],
    [SECRET, f"api_key={SECRET}"],
]
ALLOWED = [
    ["--tensor-parallel-size", "2", "--max-num-batched-tokens", "4096"],
    ["--tokenizer", "org/model", "--skip-tokenizer-init", "--tokenizer-mode=auto"],
    ["--ssl-keyfile", "/etc/key.pem", "--allowed-origins", '["*"]'],
    ["--max-model-len=100", "-tp", "2", "--api-server-count", "2"],
    ["--hf-overrides", '{"max_position_embeddings": 100}', "--otlp-traces-endpoint", "http://h:4317/v1?x=y"],
    ["--ssl-keyfile-password", "$KEYFILE_PASSWORD"],
]


@pytest.mark.parametrize("args", REFUSED, ids=" ".join)
def test_a_secret_among_the_arguments_is_refused_with_the_variable(run_file, args):
    for given in (args, " ".join(args)) if " " not in "".join(args) else (args,):
        with pytest.raises(RunFileError) as caught:
            run_file(rollout={"engine": "vllm-server", "server": {"args": given}})
        assert SECRET not in str(caught.value)
        assert "gives a secret, and a run file is recorded" in str(caught.value)
        assert "api_key_env" in str(caught.value) or "HF_TOKEN" in str(caught.value)


@pytest.mark.parametrize("args", ALLOWED, ids=" ".join)
def test_other_arguments_are_not(args):
    assert ServerTable(args=args).args == args


ELSEWHERE = {
    "vllm": {"rollout": {"engine": "vllm", "vllm": {"kwargs": {"hf_token": SECRET}}}},
    "inside vllm": {"rollout": {"engine": "vllm", "vllm": {"kwargs": {"kv_transfer_config": {"password": SECRET}}}}},
    "below a name": {"rollout": {"engine": "vllm", "vllm": {"kwargs": {"credentials": {"value": SECRET}}}}},
    "an address": {"rollout": {"server": {"addresses": ["http://a:1", f"http://me:{SECRET}@host:8000"]}}},
    "a user": {"rollout": {"server": {"addresses": [f"http://{SECRET}@host:8000"]}}},
    "a query": {"rollout": {"server": {"addresses": [f"http://host:8000/?key={SECRET}"]}}},
    "a fragment": {"rollout": {"server": {"addresses": [f"http://host:8000/#token={SECRET}"]}}},
    "the key for its variable": {"rollout": {"server": {"api_key_env": f"sk-{SECRET}"}}},
    "the weights": {"rollout": {"server": {"weights_folder": f"s3://me:{SECRET}@bucket"}}},
    "a model": {"model": {"name": f"https://me:{SECRET}@hub/x"}},
    "a model without a scheme": {"model": {"name": f"me:{SECRET}@hub/x"}},
    "a reference": {"model": {"name": "a/b", "reference": {"name": f"https://me:{SECRET}@hub/x"}}},
    "a folder": {"output_dir": f"https://me:{SECRET}@hub/x"},
    "an environment": {"environment": {"name": "a", "kwargs": {"api_key": SECRET}}},
    "inside an option": {"environment": {"name": "a", "kwargs": {"judge": [{"headers": {"Authorization": SECRET}}]}}},
    "a loss": {"loss": [{"name": "a", "kwargs": {"openaiApiKey": SECRET}}]},
    "an extension": {"extension": {"name": "a", "kwargs": {"wandb_key": SECRET}}},
    "of a form": {"environment": {"name": "a", "kwargs": {"how": f"sk-{SECRET}"}}},
    "a template": {"rollout": {"chat_template_kwargs": {"password": SECRET}}},
}


@pytest.mark.parametrize("tables", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_secret_elsewhere_is_refused_too(tables):
    with pytest.raises(RunFileError, match="gives a secret") as caught:
        RunFile(**({"model": {"name": "a/b"}, "environment": {"name": "a"}} | tables))
    assert SECRET not in str(caught.value)


def test_an_option_of_a_component_is_told_to_take_a_variable():
    with pytest.raises(ValueError, match=r"api_key gives a secret.*let the component read it from an environment variable"):
        EnvironmentTable(name="a", kwargs={"api_key": SECRET})


NO_SECRETS = {
    "max_new_tokens": 100,
    "token_mask_low": 0.1,
    "tokens_per_micro_batch": "many",
    "pad_token": "<|pad_2_of_3|>",
    "eos_token": "</s>",
    "user_token": "<|user_1b2c|>",
    "session_token": "[SESSION]",
    "think_token": "think2tok9x",
    "monkey": SECRET,
    "answer_key": "answer_2x3b9c",
    "reward_key": "score",
    "key": "a_column",
    "keys": ["first", "second_2"],
    "token": "yes",
    "api_key_env": "OPENAI_API_KEY",
    "api_key": "EMPTY",
    "secret": True,
    "password": 3,
    "hf_token": "$HF_TOKEN",
    "private_key": "/home/me/.ssh/id_rsa",
    "key_file": "key.pem",
    "secret_word_count": "3",
    "tokenizer": "org/Model-2.5-0.5B",
    "system_prompt": "The password: swordfish2. Write key: value, or Authorization: none",
    "url": "https://host:8080/org/repo@v1.0?version=3#top",
    "origin": "git@host:org/repo",
    "path": "ssh://git@host/org/repo",
    "passing": "a1b2c3d4e5f6",
    "author": "x9y8z7w6v5",
}


@pytest.mark.parametrize(("name", "value"), NO_SECRETS.items(), ids=NO_SECRETS)
def test_what_is_no_secret_stays(name, value):
    assert find_secret(name, value) is None
    assert EnvironmentTable(name="a", kwargs={name: value, "inner": {name: value}}).kwargs[name] == value


@pytest.mark.parametrize("text", ["a", "sk-", "eyJ-", "a=b;", "://", "[[[", '{"a":', "a-", "{a", "http://a@"])
def test_the_search_takes_no_time_that_grows_with_the_text(text):
    assert find_secret("x", f"{text * 200_000} hf_{SECRET}{SECRET}") == find_secret("x", text * 2_500)


def test_deep_tables_are_searched_once():
    deep = SECRET
    for _ in range(90):
        deep = {"secret": deep}
    assert find_secret("x", deep) == "secret"


@pytest.mark.parametrize(
    "text", [f"rollout.nope.x.api_key={SECRET}", f"loss.7.kwargs.password={SECRET}", f"seed.x=https://me:{SECRET}@host"]
)
def test_an_override_that_cannot_be_applied_does_not_repeat_a_secret(text):
    tables = {"rollout": {"nope": 3}, "loss": [{"name": "a"}, {"name": "b"}], "seed": 3}
    with pytest.raises(RunFileError, match="--set") as caught:
        Override(text).apply(tables)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://me:{}@host/org/repo", "https://host/org/repo"),
        ("https://me:p@{}@host/org/repo", "https://host/org/repo"),
        ("https://{}@host:8080/org/repo", "https://host:8080/org/repo"),
        ("https://me:a/{}@host/repo", "https://host/repo"),
        ("https://me:a?{}@host/repo", "https://host/repo"),
        ("https://host/x.whl?token={}", "https://host/x.whl"),
        ("https://host/x.whl?a=b&X-Amz-Signature={}#sha256=1", "https://host/x.whl"),
        ("https://host/x.whl#access_token={}", "https://host/x.whl"),
        ("ssh://git@host/org/repo", "ssh://git@host/org/repo"),
        ("ssh://git:{}@host/org/repo", "ssh://host/org/repo"),
        ("git+https://host/org/repo@v1.0", "git+https://host/org/repo@v1.0"),
        ("https://host:8080/org/repo@v1.0", "https://host:8080/org/repo@v1.0"),
        ("file:///home/a@b/repo", "file:///home/a@b/repo"),
        ("git@host:org/repo", "git@host:org/repo"),
    ],
)
def test_the_origin_of_a_package_is_recorded_without_secrets(url, clean):
    assert without_secrets(url.format(SECRET)) == clean
