"""An agent that is a program: what it gets, how its reward is read, what a failure tells, and a run that trains with it."""

import asyncio
import json
import os
import re

import pytest

from plugrad import ContractError, OptionError
from plugrad.standard.environments.agent import Agent
from plugrad.standard.environments.agent_command import AgentCommand

AGENT = """
import http.client, json, os, sys
from urllib.parse import urlsplit

example = json.loads(sys.stdin.readline())
if example["prompt"] == "3+1=":
    print("first words", file=sys.stderr)
    sys.exit("the board is broken")
address, messages, told = urlsplit(os.environ["OPENAI_BASE_URL"]), example["prompt"], []
for turn in range(2):
    connection = http.client.HTTPConnection(address.netloc)
    request = {"model": "policy", "prompt": messages, "max_tokens": 2}
    headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
    connection.request("POST", address.path + "/completions", json.dumps(request), headers)
    answer = json.load(connection.getresponse())
    text = answer["choices"][0]["text"]
    told += [character for character in text if character.isdigit()]
    messages += text + "+"
    connection.close()
print("thinking")
print(json.dumps({"digits": len(told), "came": 0.5}))
"""


def reward_of(script, folder, example=None):
    """Return the reward that a program of the shell writes."""
    command = AgentCommand.of(["sh", "-c", script], folder)
    return asyncio.run(command.reward(example or {"prompt": "1+1="}, "http://127.0.0.1:1/key/v1"))


@pytest.mark.parametrize(
    ("script", "reward"),
    [
        ("echo 0.5", 0.5),
        ("echo thinking; echo; printf -- -2; sleep 60 &", -2),
        ("""echo '{"won": 1, "fast": 0.25}'""", {"won": 1, "fast": 0.25}),
    ],
)
def test_the_last_line_is_the_reward(tmp_path, script, reward):
    assert reward_of(script, tmp_path) == reward


def test_a_program_is_looked_for_where_it_runs(tmp_path):
    (tmp_path / "agent.sh").write_text("#!/bin/sh\necho 0.25\n")
    (tmp_path / "agent.sh").chmod(0o755)
    assert asyncio.run(AgentCommand.of(["./agent.sh"], tmp_path).reward({}, "http://x")) == 0.25


def test_it_gets_the_example_and_an_address_for_this_rollout_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a real key")
    monkeypatch.setenv("NO_PROXY", "example.org")
    reward_of(
        'cat > example; echo "$OPENAI_BASE_URL $OPENAI_API_KEY $NO_PROXY" > told; echo 1', tmp_path, {"prompt": "ö\n?"}
    )
    assert json.loads((tmp_path / "example").read_text()) == {"prompt": "ö\n?"}
    assert len((tmp_path / "example").read_text().splitlines()) == 1
    assert (tmp_path / "told").read_text() == "http://127.0.0.1:1/key/v1 unused 127.0.0.1,example.org\n"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 1; echo no board >&2; exit 3", r"sh -c .* ended with exit code 3\.\n  The end of its stderr:\n    no board$"),
        ("kill -9 $$", r"ended with SIGKILL\. It wrote nothing to stderr\."),
        ("echo 1; echo nearly", r"the last line that .* wrote to stdout is 'nearly', which is no reward\. It must be"),
        ("true", "is not there: it wrote nothing"),
        ("echo '{}'", "which is no reward"),
        ("echo NaN", "which is no reward"),
        ("""echo '{"won": "yes"}'""", "which is no reward"),
        ("yes 2>&1 >&2 | head -c 300000 >&2; exit 1", r"(    y\n){7}    y$"),
    ],
)
def test_what_is_no_reward_costs_the_rollout_and_tells_the_end_of_stderr(tmp_path, script, told):
    with pytest.raises(ContractError, match=told):
        reward_of(script, tmp_path)


def test_it_is_killed_with_what_it_started(tmp_path):
    async def play():
        script = "sleep 600 & echo $! > new; mv new pid; wait"
        rewarding = asyncio.create_task(AgentCommand.of(["sh", "-c", script], tmp_path).reward({}, "http://x"))
        while not (tmp_path / "pid").exists():
            await asyncio.sleep(0.01)
        rewarding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rewarding

    asyncio.run(play())
    pid = int((tmp_path / "pid").read_text())
    while is_running(pid):
        pass


def is_running(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            # One that nobody has waited for yet has ended, too.
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "has neither run nor command"),
        ({"run": "json:loads", "command": ["sh"]}, "has both run and command"),
        ({"command": []}, "command is empty"),
        ({"command": ["no-such-program"]}, "on PATH there is no program 'no-such-program' that can be run"),
        (
            {"command": ["./sums.jsonl"]},
            r"in .* no program './sums.jsonl' that can be run.*make the file executable",
        ),
    ],
)
def test_a_command_that_cannot_be_run_is_refused_at_once(tmp_path, options, told):
    (tmp_path / "sums.jsonl").write_text('{"prompt": "1+1="}\n')
    with pytest.raises(OptionError, match=told):
        Agent(path=tmp_path / "sums.jsonl", **options)


def test_a_run_trains_with_it_and_its_failures_cost_their_rollouts(run, write, tmp_path):
    write("my_agent.py", AGENT)
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps({"prompt": f"{i}+1="}) + "\n" for i in range(4)))
    kwargs = {"path": "tasks.jsonl", "command": ["python", "-I", "my_agent.py"]}
    rollout = {"prompts_per_step": 4, "rollouts_per_example": 2, "max_new_tokens": 4}
    environment = {"name": "agent", "kwargs": kwargs}
    result = run(environment=environment, rollout=rollout, max_steps=2, samples={"num": 8})
    assert [record["environment/failed"] for record in result.records] == [0.25, 0.25]
    assert [record["environment/turns"] for record in result.records] == [2, 2]
    assert all(abs(record["inference_mismatch/max_ratio"] - 1) < 1e-4 for record in result.records)
    assert all(record["grad_norm"] > 0 for record in result.records)
    samples = [json.loads(line) for line in (result.folder / "samples.jsonl").read_text().splitlines()]
    failed = [sample["failed"] for sample in samples if sample["prompt"] == "3+1="]
    assert len(failed) == 4
    told = r"my_agent\.py' ended with exit code 1\.\n.*\n +first words\n +the board is broken$"
    assert all(re.search(told, why) for why in failed)
    for sample in samples:
        if "failed" not in sample:
            assert [turn["role"] for turn in sample["turns"]] == ["assistant", "user", "assistant"]
            assert sample["rewards"] == {"digits": sum(map(str.isdigit, sample["completion"])), "came": 0.5}
