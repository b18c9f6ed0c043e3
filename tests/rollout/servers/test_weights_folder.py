"""Weights on their way: complete, tied ones too, in shards that limit the memory, and a disk that is full."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from plugrad.errors import EngineError
from plugrad.rollout.servers import weights_folder as module
from plugrad.rollout.servers.server import Server, ServerError
from plugrad.rollout.servers.stale_weights import remove_stale_weights
from plugrad.rollout.servers.weight_labels import WeightLabels
from plugrad.rollout.servers.weights_folder import FolderWeightSync, write_weights
from plugrad.testing.models import tiny_model

MODEL = tiny_model()


def weights_of(model):
    return [(name, weight.detach()) for name, weight in model.state_dict(keep_vars=True).items()]


def read(folder):
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    files = {file: load_file(folder / file) for file in set(index.values())}
    assert {name for file in files.values() for name in file} == set(index)
    return {name: files[file][name] for name, file in index.items()}


def test_tied_weights_are_written_under_every_name(tmp_path):
    write_weights(weights_of(MODEL), tmp_path)
    found = read(tmp_path)
    assert MODEL.config.tie_word_embeddings
    assert "lm_head.weight" in found
    assert found.keys() == dict(weights_of(MODEL)).keys()
    assert all(torch.equal(found[name], weight) for name, weight in weights_of(MODEL))


def test_shards_stay_below_their_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD_BYTES", 4000)
    weights = [(f"w{number}", torch.full((500,), float(number))) for number in range(5)] + [("large", torch.ones(3000))]
    write_weights(weights, tmp_path)
    sizes = [sum(t.nbytes for t in load_file(file).values()) for file in sorted(tmp_path.glob("*.safetensors"))]
    assert sizes == [4000, 4000, 2000, 12000]
    assert all(torch.equal(read(tmp_path)[name], weight) for name, weight in weights)


def test_weights_that_are_not_contiguous(tmp_path):
    weight = torch.arange(12.0).reshape(3, 4)
    write_weights([("transposed", weight.T), ("column", weight[:, 1]), ("bf16", weight.bfloat16())], tmp_path)
    found = read(tmp_path)
    assert torch.equal(found["transposed"], weight.T)
    assert torch.equal(found["column"], weight[:, 1])
    assert found["bf16"].dtype == torch.bfloat16


class Counted:
    """Weights that count how many were taken. Every rank must take all of a sharded policy's."""

    def __init__(self):
        self.taken = 0

    def __iter__(self):
        for item in weights_of(MODEL):
            self.taken += 1
            yield item


def make_sync(folder, *, is_main=True):
    return FolderWeightSync(
        folder,
        [],
        WeightLabels("run"),
        on_main=lambda act: act() if is_main else {},
        is_main=is_main,
    )


def test_all_weights_are_written_in_the_layout_of_transformers(tmp_path):
    sync = make_sync(tmp_path / "weights")
    assert sync.send(Counted(), 3) == {}
    [folder] = (tmp_path / "weights" / "run").glob("*-v*")
    assert folder.name == "000001-v3"
    MODEL.config.save_pretrained(folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert all(torch.equal(weight, dict(weights_of(MODEL))[name]) for name, weight in weights_of(loaded))
    sync.send(Counted(), 4)
    assert [path.name for path in (tmp_path / "weights" / "run").glob("*-v*")] == ["000002-v4"]
    sync.close()
    assert not (tmp_path / "weights").exists()


def test_a_folder_that_was_there_stays(tmp_path):
    (tmp_path / "mine").mkdir()
    sync = make_sync(tmp_path / "mine")
    sync.send(Counted(), 0)
    sync.close()
    assert list((tmp_path / "mine").iterdir()) == []


def test_other_ranks_gather_and_write_nothing(tmp_path):
    weights = Counted()
    make_sync(tmp_path / "weights", is_main=False).send(weights, 0)
    assert weights.taken == len(weights_of(MODEL))
    assert not (tmp_path / "weights").exists()


def test_where_nothing_can_be_written_every_rank_still_gathers(tmp_path):
    """Another rank would wait forever for a main rank that stopped in the middle of the weights."""
    (tmp_path / "file").write_text("in the way")
    weights = Counted()
    with pytest.raises(EngineError, match=r"cannot be written to .*file.*rollout\.server\.weights_folder"):
        make_sync(tmp_path / "file").send(weights, 0)
    assert weights.taken == len(weights_of(MODEL))


def test_a_full_disk(tmp_path, monkeypatch):
    weights = Counted()
    monkeypatch.setattr(module, "SHARD_BYTES", 1000)
    real, calls = module.save_file, []

    def full(*args, **kwargs):
        calls.append(args)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        real(*args, **kwargs)

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(EngineError, match=r"No space left on device.*Make room there"):
        make_sync(tmp_path / "weights").send(weights, 0)
    assert weights.taken == len(weights_of(MODEL))
    assert list((tmp_path / "weights" / "run").iterdir()) == []


def test_the_weights_of_killed_runs_are_removed_and_nothing_else(tmp_path):
    stale, mine = tmp_path / "weights" / WeightLabels.fresh().run_id, tmp_path / "weights" / "of-mine"
    for folder in (stale, mine):
        folder.mkdir(parents=True)
        (folder / "model-00001.safetensors").touch()
    remove_stale_weights(tmp_path)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["of-mine"]
    shutil.rmtree(mine)
    remove_stale_weights(tmp_path)
    assert not (tmp_path / "weights").exists()
    remove_stale_weights(tmp_path)


def test_a_lock_that_cannot_be_acquired_is_the_servers_error(tmp_path):
    """As on a file system without locks."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ServerError, match=r"cannot acquire its lock in .*file"):
        make_sync(tmp_path / "file").resend(Server("http://127.0.0.1:1", {}, 1.0), 0)
