"""However many ranks share a batch, and however unequally, the update is the same: in float64, to 1e-9."""

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
from scenario import REDUCTIONS, SEVERAL, Scenario, assert_same, three_steps
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
UNTIED = "an untied head"
LORA = "an adapter"
PROBES = "parameters of Probes"
IN_FILE = {"folder": str(HERE)}
AGAIN = tuple((f"forms.py:{form}", 0.7, "group") for form in ("adversarial_in_two_steps", "adversarial", "now_and_then"))
FOLLOWING = (("forms.py:follows", 1.0, "sequence"), ("forms.py:follows_the_worst", 0.2, "token"))
CRITIC = (("ppo_clip", 1.0, "token"), ("forms.py:clipped_values", 0.5, "group"))
SCENARIOS = {
    **{reduction: Scenario(seed=1, terms=(("ppo_clip", 1.0, reduction),), budget=40) for reduction in REDUCTIONS},
    "several losses": Scenario(seed=2, terms=SEVERAL, budget=30),
    "one micro-batch on each": Scenario(seed=2, terms=SEVERAL),
    "three groups and one": Scenario(seed=3, terms=SEVERAL, budget=40, shares=(3, 1)),
    "one group and three": Scenario(seed=3, terms=SEVERAL, budget=40, shares=(1, 3)),
    "none on the second": Scenario(seed=4, terms=SEVERAL, budget=40, shares=(1, 0)),
    "none on the first": Scenario(seed=4, terms=SEVERAL, budget=40, shares=(0, 1)),
    "a dead group, an empty sequence": Scenario(seed=5, terms=SEVERAL, budget=30, dead_group=True, empty=True),
    "two updates of each batch": Scenario(seed=6, terms=SEVERAL, budget=30, updates_per_batch=2),
    "four updates, one of them without a group on each": Scenario(seed=6, terms=SEVERAL, budget=30, updates_per_batch=4),
    "gradient checkpointing": Scenario(seed=7, terms=SEVERAL, budget=30, checkpointing=True),
    "by sequence": Scenario(seed=8, terms=(("forms.py:by_sequence", 1.0, "group"),), budget=40, **IN_FILE),
    "by batch": Scenario(seed=8, terms=(("forms.py:by_batch", 1.0, "group"),), budget=40, **IN_FILE),
    "a loss that learns of updates": Scenario(
        seed=8, terms=(("forms.py:Adaptive", 1.0, "token"),), budget=40, updates_per_batch=2, **IN_FILE
    ),
    "metrics with gaps, by sequence": Scenario(
        seed=8, terms=(("forms.py:gaps_by_sequence", 1.0, "group"),), budget=40, updates_per_batch=2, **IN_FILE
    ),
    "metrics with gaps, by batch": Scenario(seed=8, terms=(("forms.py:gaps_by_batch", 1.0, "group"),), budget=40, **IN_FILE),
    "the whole batch": Scenario(
        seed=8, terms=(("forms.py:contrasts", 1.0, "sequence_sum"), *SEVERAL), budget=30, updates_per_batch=2, **IN_FILE
    ),
    "the whole batch, none on the first": Scenario(
        seed=4, terms=(("forms.py:contrasts", 0.7, "group"), *SEVERAL), budget=40, shares=(0, 1), **IN_FILE
    ),
    "the whole batch, at random": Scenario(
        seed=5, terms=(("forms.py:draws", 1.0, "token"),), budget=30, empty=True, **IN_FILE
    ),
    "some examples": Scenario(seed=3, terms=SEVERAL, budget=40, shares=(3, 1), where=(("task", "math"),)),
    "some examples of the whole batch": Scenario(
        seed=8, terms=(("forms.py:contrasts", 1.0, "sequence"), *SEVERAL), budget=30, where=(("task", "code"),), **IN_FILE
    ),
    "a critic": Scenario(
        seed=8,
        terms=(*CRITIC, ("forms.py:explains", 0.1, "token")),
        budget=30,
        updates_per_batch=2,
        critic=True,
        **IN_FILE,
    ),
    "a critic, none on the first": Scenario(
        seed=4,
        terms=(("ppo_clip", 1.0, "token"), ("forms.py:clipped_values", 0.5, "group")),
        budget=40,
        shares=(0, 1),
        critic=True,
        **IN_FILE,
    ),
    "a critic that no loss trains": Scenario(seed=8, terms=SEVERAL, budget=30, critic=True, **IN_FILE),
    "again": Scenario(
        seed=8,
        terms=(("forms.py:adversarial", 0.7, "group"), ("forms.py:now_and_then", 0.5, "token"), ("ppo_clip", 1.0, "token")),
        budget=30,
        updates_per_batch=2,
        **IN_FILE,
    ),
    "again, none on the first": Scenario(
        seed=4, terms=(("forms.py:adversarial_in_two_steps", 0.7, "sequence"),), budget=40, shares=(0, 1), **IN_FILE
    ),
    "again, of some examples": Scenario(
        seed=3, terms=AGAIN, budget=30, shares=(3, 1), where=(("task", "math"),), checkpointing=True, **IN_FILE
    ),
    "again, a vision tower": Scenario(seed=2, terms=AGAIN, budget=30, shares=(1, 0), sees=True, **IN_FILE),
    "again, a critic": Scenario(seed=8, terms=(*AGAIN, *CRITIC), budget=30, critic=True, **IN_FILE),
    **{
        f"parameters of {form}{which}": Scenario(
            seed=8,
            terms=(("ppo_clip", 1.0, "token"), (f"forms.py:{form}", 0.7, "group"), (f"forms.py:{form}", 0.3, "token")),
            budget=30,
            updates_per_batch=2,
            shares=shares,
            **IN_FILE,
        )
        for form in ("Uncertain", "Probes", "Tempered")
        for which, shares in (("", (1, 1)), (", none on the first", (0, 1)))
    },
    "teachers": Scenario(
        seed=8, terms=(*FOLLOWING, *SEVERAL), budget=40, updates_per_batch=2, teachers=("math", "code"), **IN_FILE
    ),
    "teachers, none on the first": Scenario(
        seed=4, terms=FOLLOWING, budget=60, shares=(0, 1), teachers=("math", "code!"), **IN_FILE
    ),
    "its own teacher": Scenario(seed=8, terms=FOLLOWING, budget=60, updates_per_batch=2, teachers=("!",), **IN_FILE),
    "a vision tower": Scenario(seed=2, terms=SEVERAL, budget=30, sees=True),
    "a vision tower, none on the second": Scenario(seed=4, terms=SEVERAL, budget=40, shares=(1, 0), sees=True),
    "held-out completions": Scenario(
        seed=8, terms=(*SEVERAL, *CRITIC[1:]), budget=30, critic=True, evaluates=True, **IN_FILE
    ),
    "held-out completions, none on the first": Scenario(
        seed=4, terms=(*SEVERAL, *CRITIC[1:]), budget=40, shares=(0, 1), critic=True, evaluates=True, empty=True, **IN_FILE
    ),
    LORA: Scenario(seed=2, terms=(*SEVERAL, *AGAIN), budget=30, updates_per_batch=2, lora=(), **IN_FILE),
    "an adapter that begins elsewhere, a critic": Scenario(
        seed=8,
        terms=(*SEVERAL, *CRITIC[1:], *FOLLOWING),
        budget=40,
        shares=(0, 1),
        critic=True,
        checkpointing=True,
        teachers=("math", "code!"),
        lora=(("init", "orthogonal"), ("r", 4), ("dora", True)),
        **IN_FILE,
    ),
    "several turns, in segments": Scenario(
        seed=5, terms=(*SEVERAL, *CRITIC[1:]), budget=60, updates_per_batch=2, critic=True, turns=True, **IN_FILE
    ),
    "several turns, none on the first": Scenario(seed=5, terms=SEVERAL, budget=60, shares=(0, 1), turns=True),
    UNTIED: Scenario(seed=9, terms=SEVERAL, budget=40, model=(("tie_word_embeddings", False),)),
}
TWO = {name: replace(s, shares=s.shares if len(s.shares) == 2 else (1, 1)) for name, s in SCENARIOS.items()}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two ranks found: their process, how many they were, and the results by name."""
    folder = tmp_path_factory.mktemp("ranks")
    sharded = {f"{name}, sharded": replace(scenario, sharded=True) for name, scenario in TWO.items()}
    saved = {
        f"{name}, sharded": replace(sharded[f"{name}, sharded"], save_to=str(folder / name))
        for name in ("token", UNTIED, PROBES, LORA)
    }
    (folder / "scenarios.pickle").write_bytes(pickle.dumps({**TWO, **sharded, **saved}))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, str(HERE / "rank_worker.py"), str(folder / "scenarios.pickle"), str(folder)],
        capture_output=True,
        text=True,
        timeout=1800,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(2)], folder


def test_there_were_two_processes_that_knew_each_other(ranks):
    (first, of_first, _), (second, of_second, _) = ranks[0]
    assert len({os.getpid(), first, second}) == 3
    assert of_first == of_second == 2


@pytest.mark.parametrize("how", ["", ", sharded"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_two_ranks_do_what_one_does(ranks, name, how):
    alone = three_steps(replace(SCENARIOS[name], shares=(1,)), Accelerator(cpu=True))
    for _, _, results in ranks[0]:
        assert_same(results[name + how], alone)


@pytest.mark.parametrize("name", ["token", UNTIED])
def test_a_sharded_policy_is_saved_as_a_whole_transformers_folder(ranks, tmp_path, name):
    results, folder = ranks
    scenario = replace(SCENARIOS[name], shares=(1,), save_to=str(tmp_path / "alone"))
    three_steps(scenario, Accelerator(cpu=True))
    found, expected = (load_file(saved / "model.safetensors") for saved in (folder / name, tmp_path / "alone"))
    assert found.keys() == expected.keys()
    loaded = AutoModelForCausalLM.from_pretrained(folder / name, dtype="auto")
    for parameter, trained in zip(loaded.parameters(), results[0][2][f"{name}, sharded"].parameters, strict=True):
        assert torch.equal(parameter, trained)


def test_a_sharded_policys_adapter_is_saved_whole(ranks):
    results, folder = ranks
    found = load_file(folder / LORA / "adapter_model.safetensors")
    trained = [p for p in results[0][2][f"{LORA}, sharded"].parameters if {*p.shape} & {16}]
    assert len(found) == 2 * 7 * 2
    assert all(any(torch.equal(value, p) for p in trained if p.shape == value.shape) for value in found.values())


def test_sharded_parameters_of_losses_are_saved_whole_by_their_own_names(ranks, tmp_path):
    three_steps(replace(SCENARIOS[PROBES], shares=(1,), save_to=str(tmp_path)), Accelerator(cpu=True))
    saved = sorted((ranks[1] / PROBES / "trained").iterdir())
    assert [path.name for path in saved] == ["Probes%2Fgroup.safetensors", "Probes%2Ftoken.safetensors"]
    for path in saved:
        found, expected = load_file(path), load_file(tmp_path / "trained" / path.name)
        assert sorted(found) == sorted(expected) == ["0.bias", "0.weight", "2.weight", "3.bias", "3.weight"]
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-11)


def test_every_rank_had_work_to_share(ranks):
    (_, _, results), _ = ranks[0]
    alone = three_steps(replace(SCENARIOS["several losses"], shares=(1,)), Accelerator(cpu=True))
    assert 1 < results["several losses"].num_micro_batches < alone.num_micro_batches


def test_failed_plays_are_counted_over_all_ranks(ranks):
    """Three plays on each: all of the first rank's are half of them, and one more ends the run on both."""
    of_ranks = [pickle.loads((ranks[1] / f"{rank}.failures.pickle").read_bytes()) for rank in range(2)]
    for on_the_border, too_many, all_failed, none in of_ranks:
        assert on_the_border == [[0.0] * 3, [1.0] * 3]
        assert "5 plays of 6 failed, most often so: " in too_many
        assert "6 plays of 6 failed" in all_failed
        assert none == [[1.0] * 3, [1.0] * 3]
