"""However many ranks share a batch, and however unequally, the update is the same: in float64, to 1e-9."""

import os
import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from scenario import REDUCTIONS, SEVERAL, Scenario, accelerator_of, assert_same, three_steps
from transformers import AutoModelForCausalLM

from plugrad.testing import tiny_model, tiny_tokenizer
from plugrad.trainer.ranks.accelerate_config import make_accelerator

HERE = Path(__file__).parent
UNTIED = "an untied head"
LORA = "an adapter"
PROBES = "parameters of Probes"
QLORA = "a base of 4 bits"
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
    "offloads": Scenario(seed=2, terms=SEVERAL, budget=30, memory=(("offload_reference", True),)),
    "several turns, in segments": Scenario(
        seed=5, terms=(*SEVERAL, *CRITIC[1:]), budget=60, updates_per_batch=2, critic=True, turns=True, **IN_FILE
    ),
    "several turns, none on the first": Scenario(seed=5, terms=SEVERAL, budget=60, shares=(0, 1), turns=True),
    UNTIED: Scenario(seed=9, terms=SEVERAL, budget=40, model=(("tie_word_embeddings", False),)),
}
# The update is exact in float64 alone. In bfloat16, it is where one rank has all rows: the others add zeros.
KEPT = (("max_grad_norm", 1e9),)  # The norm of gradients of bfloat16 is rounded to it, and so would be what it clips.
MASTERS = (*KEPT, ("master_weights", True))
STORED, COMPUTED = (("dtype", "bfloat16"),), (("dtype", "float32"), ("compute_dtype", "bfloat16"))
OFFLOADED = (("offload_optimizer", True), ("offload_activations", True))
IN_BFLOAT16 = Scenario(seed=4, terms=SEVERAL, shares=(1, 0), updates_per_batch=2, dtypes=STORED, optimizer=MASTERS)
BESIDE_BFLOAT16 = replace(IN_BFLOAT16, lora=(), optimizer=KEPT)
TO_THE_BIT = {
    "masters": IN_BFLOAT16,
    "masters, sharded": replace(IN_BFLOAT16, sharded=True),
    "masters that wait": replace(IN_BFLOAT16, memory=(*OFFLOADED, ("offload_reference", True))),
    "an adapter beside bfloat16": BESIDE_BFLOAT16,
    "an adapter beside bfloat16, sharded": replace(BESIDE_BFLOAT16, sharded=True),
    "an adapter beside bfloat16, which waits": replace(BESIDE_BFLOAT16, memory=OFFLOADED),
    "computed": replace(IN_BFLOAT16, dtypes=COMPUTED, optimizer=KEPT),
}
COMPUTED_SHARDED = replace(TO_THE_BIT["computed"], sharded=True)
SPREAD = {
    "spread, all weights": Scenario(seed=8, terms=SEVERAL, budget=40, dtypes=COMPUTED, optimizer=KEPT),
    "spread, an adapter": Scenario(seed=8, terms=SEVERAL, budget=40, dtypes=COMPUTED, optimizer=KEPT, lora=()),
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
    spread = {name: replace(scenario, shares=(1, 1), sharded=True) for name, scenario in SPREAD.items()}
    tiny_model().save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    of_bfloat16 = {QLORA: of_4_bits(folder), "computed, sharded": COMPUTED_SHARDED}
    kinds = (TWO, {**sharded, **saved}, TO_THE_BIT, of_bfloat16, spread)
    names = Counter(name for kind in kinds for name in kind)
    assert not (twice := [name for name, num in names.items() if num > 1]), f"scenarios of one name: {twice}"
    (folder / "scenarios.pickle").write_bytes(pickle.dumps({name: each for kind in kinds for name, each in kind.items()}))
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


@cache
def alone(name):
    """What one rank does: what two do is compared with it, whole and sharded."""
    return three_steps(replace(SCENARIOS[name], shares=(1,)), Accelerator(cpu=True))


def test_there_were_two_processes_that_knew_each_other(ranks):
    (first, of_first, _), (second, of_second, _) = ranks[0]
    assert len({os.getpid(), first, second}) == 3
    assert of_first == of_second == 2


@pytest.mark.parametrize("how", ["", ", sharded"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_two_ranks_do_what_one_does(ranks, name, how):
    for _, _, results in ranks[0]:
        assert_same(results[name + how], alone(name))


def of_one(scenario, **changes):
    scenario = replace(scenario, shares=(1,), sharded=False, memory=(), **changes)
    try:
        return three_steps(scenario, accelerator_of(scenario))
    finally:
        # Accelerate keeps the precision for the process.
        make_accelerator()


def of_4_bits(folder):
    """An adapter beside a base of 4 bits, where bitsandbytes is installed."""
    if find_spec("bitsandbytes") is None:
        return BESIDE_BFLOAT16
    return replace(BESIDE_BFLOAT16, base=str(folder / "base"), dtypes=(("quantization", "nf4"), *COMPUTED))


def assert_same_bits(found, wanted):
    for ours, its in zip([*found.gradients, found.parameters], [*wanted.gradients, wanted.parameters], strict=True):
        for one, other in zip(ours, its, strict=True):
            assert torch.equal(one.bfloat16(), other.bfloat16()) if one.dtype != other.dtype else torch.equal(one, other)
    for record, its in zip(found.records, wanted.records, strict=True):
        assert record.keys() == its.keys()
        assert all(record[name] == its[name] or its[name] != its[name] for name in its if name != "grad_norm")


@pytest.mark.parametrize("name", TO_THE_BIT)
def test_in_bfloat16_too_to_the_bit(ranks, name):
    for _, _, results in ranks[0]:
        assert_same_bits(results[name], of_one(TO_THE_BIT[name]))


def test_beside_a_base_of_4_bits_to_the_bit(ranks):
    pytest.importorskip("bitsandbytes")
    for _, _, results in ranks[0]:
        assert_same_bits(results[QLORA], of_one(of_4_bits(ranks[1])))


def test_a_sharded_policy_that_computes_in_bfloat16_is_one_with_float32_masters(ranks):
    # FSDP2 keeps float32 weights and computes with rounded ones; so does its copy, the reference.
    masters = of_one(IN_BFLOAT16)
    for _, _, results in ranks[0]:
        assert results["computed, sharded"].records[0]["kl_to_reference/sequence/kl"] == 0.0
        assert_same_bits(results["computed, sharded"], masters)


@pytest.mark.parametrize("name", SPREAD)
def test_rows_in_bfloat16_on_two_ranks_are_as_near_to_float32_as_on_one(ranks, name):
    # Each activation is rounded by up to 1 part in 512, on one process as on two, and other cuts round other sums. So
    # they cannot be equal; but neither may be further from the gradient of float32. Later updates start elsewhere.
    exact, one = of_one(SPREAD[name], dtypes=(("dtype", "float32"),)), of_one(SPREAD[name])

    def distance(result):
        ours, its = (torch.cat([g.float().flatten() for g in r.gradients[0]]) for r in (result, exact))
        return float((ours - its).norm() / its.norm())

    for _, _, results in ranks[0]:
        assert 1e-4 < distance(results[name]) < 1.5 * distance(one) < 2e-2


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
    assert 1 < results["several losses"].num_micro_batches < alone("several losses").num_micro_batches


def test_failed_plays_are_counted_over_all_ranks(ranks):
    """Three plays on each: all of the first rank's are half of them, and one more ends the run on both."""
    of_ranks = [pickle.loads((ranks[1] / f"{rank}.failures.pickle").read_bytes()) for rank in range(2)]
    for on_the_border, too_many, all_failed, none in of_ranks:
        assert on_the_border == [[0.0] * 3, [1.0] * 3]
        assert "5 plays of 6 failed, most often so: " in too_many
        assert "6 plays of 6 failed" in all_failed
        assert none == [[1.0] * 3, [1.0] * 3]
