"""A run that goes on makes the same updates, whatever number of ranks wrote or reads the checkpoint, sharded or not."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from scenario import SEVERAL, Scenario, assert_same, three_steps

HERE = Path(__file__).parent
TERMS = (
    *SEVERAL,
    ("forms.py:Adaptive", 1.0, "token"),
    ("forms.py:Probes", 0.5, "sequence"),
    ("forms.py:clipped_values", 0.5, "group"),
)
WHOLE = Scenario(seed=8, terms=TERMS, budget=40, updates_per_batch=2, critic=True, folder=str(HERE))
LORA = Scenario(seed=8, terms=SEVERAL, budget=40, updates_per_batch=2, lora=(("init", "orthogonal"), ("r", 4)))
WRITERS = READERS = ("one rank", "two ranks", "two ranks, sharded")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The results by who wrote the checkpoint and who read it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for writer in WRITERS:
        (folder / writer).mkdir()
        for name in ("run.toml", "plugins.json"):
            (folder / writer / name).touch()
    alone = {"written": replace(WHOLE, checkpoint_in=str(folder / WRITERS[0]))}
    three_steps(alone["written"], Accelerator(cpu=True))
    two = replace(WHOLE, shares=(1, 1))
    kinds = {WRITERS[1]: two, WRITERS[2]: replace(two, sharded=True)}
    scenarios = {writer: replace(kind, checkpoint_in=str(folder / writer)) for writer, kind in kinds.items()}
    for writer in WRITERS:
        for reader, kind in kinds.items():
            scenarios[writer, reader] = replace(kind, goes_on_in=str(folder / writer))
    (folder / "lora").mkdir()
    for name in ("run.toml", "plugins.json"):
        (folder / "lora" / name).touch()
    three_steps(replace(LORA, checkpoint_in=str(folder / "lora")), Accelerator(cpu=True))
    for name, is_sharded in (("lora", False), ("lora, sharded", True)):
        scenarios[name] = replace(LORA, shares=(1, 1), sharded=is_sharded, goes_on_in=str(folder / "lora"))
    results = on_two_ranks(scenarios, folder)
    results["tensors of lora"] = {
        name for file in (folder / "lora").rglob("policy/*.safetensors") for name in load_file(file)
    }
    for writer in WRITERS:
        results[writer, WRITERS[0]] = three_steps(replace(WHOLE, goes_on_in=str(folder / writer)), Accelerator(cpu=True))
    return results


def on_two_ranks(scenarios, folder):
    (folder / "scenarios.pickle").write_bytes(pickle.dumps(scenarios))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, str(HERE / "rank_worker.py"), str(folder / "scenarios.pickle"), str(folder)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    _, num_ranks, results = pickle.loads((folder / "0.pickle").read_bytes())
    assert num_ranks == 2
    return results


@pytest.fixture(scope="module")
def uninterrupted():
    return three_steps(WHOLE, Accelerator(cpu=True))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("writer", WRITERS)
def test_the_updates_are_those_of_a_run_that_did_not_stop(found, uninterrupted, writer, reader):
    last_two = replace(uninterrupted, records=uninterrupted.records[2:], gradients=uninterrupted.gradients[2:])
    assert_same(found[writer, reader], last_two)


@pytest.mark.parametrize("reader", ["lora", "lora, sharded"])
def test_an_adapter_goes_on_on_two_ranks_from_a_checkpoint_of_one_that_holds_nothing_else(found, reader):
    whole = three_steps(LORA, Accelerator(cpu=True))
    assert_same(found[reader], replace(whole, records=whole.records[2:], gradients=whole.gradients[2:]))
    assert len(found["tensors of lora"]) == 2 * 7 * 2
    assert all(".default." in name and ".lora_" in name for name in found["tensors of lora"])


@pytest.mark.parametrize("writer", WRITERS[1:])
def test_writing_one_changes_nothing(found, uninterrupted, writer):
    assert_same(found[writer], uninterrupted)


def test_on_one_rank_they_are_the_same_to_the_bit(found, uninterrupted):
    for parameter, its in zip(found["one rank", "one rank"].parameters, uninterrupted.parameters, strict=True):
        assert torch.equal(parameter, its)
