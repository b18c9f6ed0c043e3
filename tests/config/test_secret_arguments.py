"""A run file holds no secret: it is recorded in the run folder and beside the model. The message never repeats one."""

import pytest

from plugrad import RunFileError
from plugrad.config.tables.server_table import ServerTable
from plugrad.registry.provenance import without_secrets

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
]
ALLOWED = [
    ["--tensor-parallel-size", "2", "--max-num-batched-tokens", "4096"],
    ["--tokenizer", "org/model", "--skip-tokenizer-init", "--tokenizer-mode=auto"],
    ["--ssl-keyfile", "/etc/key.pem", "--allowed-origins", '["*"]'],
    ["--max-model-len=100", "-tp", "2", "--api-server-count", "2"],
]


@pytest.mark.parametrize("args", REFUSED, ids=" ".join)
def test_a_secret_among_the_arguments_is_refused_with_the_variable(run_file, args):
    with pytest.raises(RunFileError) as caught:
        run_file(rollout={"engine": "vllm-server", "server": {"args": args}})
    assert SECRET not in str(caught.value)
    assert "gives a secret, and a run file is recorded" in str(caught.value)
    assert "api_key_env" in str(caught.value) or "HF_TOKEN" in str(caught.value)


@pytest.mark.parametrize("args", ALLOWED, ids=" ".join)
def test_other_arguments_are_not(args):
    assert ServerTable(args=args).args == args


@pytest.mark.parametrize(
    "table",
    [
        {"engine": "vllm", "vllm": {"kwargs": {"hf_token": SECRET}}},
        {"engine": "vllm-server", "server": {"addresses": [f"http://me:{SECRET}@host:8000"]}},
    ],
)
def test_a_secret_elsewhere_is_refused_too(run_file, table):
    with pytest.raises(RunFileError) as caught:
        run_file(rollout=table)
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
