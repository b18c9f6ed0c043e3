"""`[rollout.server]`: an address is a scheme, a host and a port, and what else is written is answered with what to write."""

import pytest

from plugrad import RunFile
from plugrad.errors import RunFileError

REST = {"model": {"name": "m"}, "environment": {"name": "arithmetic"}}


def server(**table):
    return RunFile(**REST, rollout={"engine": "vllm-server", "server": table}).rollout.server


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:8000", "https://Node-1.cluster", "http://[::1]:80", "http://größe.example:80", "http://my_host:80"],
)
def test_an_address(address):
    assert server(addresses=[address]).addresses == [address]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("localhost:8000", 'write "http://localhost:8000"'),
        ("http://a:8000/", 'write "http://a:8000"'),
        ("https://a/v1", 'write "https://a"'),
        ("http://a:99999", "the port must be from 1 to 65535"),
        ("ftp://a", 'Write one such as "http://127.0.0.1:8000"'),
        ("", "not a server address"),
        ("http://", "not a server address"),
        ("http://[::1", "not a server address"),
        ("http://two words:80", "not a server address"),
        ("http://a..b:80", "not a server address"),
        ("http://-a:80", "not a server address"),
        (f"http://{'x' * 64}:80", "not a server address"),
        (f"http://{'x.' * 200}com:80", "not a server address"),
        ("http://a\x1b[31m:80", "not a server address"),
        ("http://a\x00:80", "not a server address"),
    ],
)
def test_what_is_no_address(address, says):
    with pytest.raises(RunFileError) as raised:
        server(addresses=[address])
    assert "rollout.server.addresses.0: " in str(raised.value)
    assert says in str(raised.value)


def test_a_server_is_named_once():
    with pytest.raises(RunFileError, match="names http://a more than once"):
        server(addresses=["http://a", "http://b", "http://a"])


def test_servers_run_already_or_are_started():
    with pytest.raises(RunFileError, match=r"num_servers = 3 starts servers, but addresses names 1 .* remove one"):
        server(addresses=["http://a"], num_servers=3)
    assert server(addresses=["http://a", "http://b"], num_servers=2).num_servers == 2


def test_the_weights_folder_means_the_same_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(
        '[model]\nname = "m"\n[environment]\nname = "arithmetic"\n[rollout.server]\nweights_folder = "w"\n'
    )
    assert RunFile.load("run.toml").rollout.server.weights_folder == str(tmp_path / "w")
