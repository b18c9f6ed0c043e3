"""One of two ranks with a sharded policy and an engine each: `torchrun --nproc-per-node 2 sharded_worker.py OUT`."""

import json
import sys
import weakref
from pathlib import Path

import torch
import torch.distributed as dist
from test_in_process import SAMPLING, change, model_of, vllm_engine
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import distribute_tensor

from plugrad.rollout.prompts import tokenize_prompts
from plugrad.testing import tiny_tokenizer
from plugrad.testing.engines.engine_trial import EXAMPLES, largest_mismatch
from plugrad.trainer.ranks.accelerate_config import make_accelerator
from plugrad.trainer.ranks.rank_exit import run_as_rank
from plugrad.trainer.ranks.ranks import Ranks, leave
from plugrad.trainer.update.learner import PolicyWeights


def main(out):
    torch.set_num_threads(1)
    ranks = Ranks.of(make_accelerator())
    found = {tied: mismatches(tied) for tied in (True, False)}
    # The ranks' own process group still exists after an engine is closed.
    everyones = ranks.gather(found)
    if ranks.is_main:
        out.write_text(json.dumps(everyones))
    leave()


def mismatches(tied):
    """Return the largest mismatch with a whole model before and after an update, and the share of weights held at once."""
    whole, sharded = (model_of(tied=tied, num_hidden_layers=6) for _ in range(2))
    for layer in sharded.model.layers:
        fully_shard(layer)
    fully_shard(sharded)
    assert any(type(parameter).__name__ == "DTensor" for parameter in sharded.parameters())
    prompts = tokenize_prompts(EXAMPLES, tiny_tokenizer(), room=None)
    engine = vllm_engine(whole, tiny_tokenizer())
    found, share = [], 0.0
    for version in range(2):
        watched = Watched(PolicyWeights(sharded))
        engine.update_weights(watched, version)
        share = max(share, watched.most_at_once / watched.whole)
        groups = engine.generate(prompts, SAMPLING)
        found.append(largest_mismatch(prompts, groups, whole, SAMPLING.temperature))
        change(whole)
        change_shards(sharded, whole)
    engine.close()
    return [*found, share]


class Watched:
    """Weights whose elements are counted as long as they are held."""

    def __init__(self, weights):
        self.weights = weights
        self.held = {}
        self.most_at_once = self.whole = 0

    def __iter__(self):
        for number, (name, weight) in enumerate(self.weights):
            size = weight.numel()
            self.held[number] = size
            weakref.finalize(weight, self.held.pop, number)
            self.whole += size
            self.most_at_once = max(self.most_at_once, sum(self.held.values()))
            yield name, weight
            del weight


def change_shards(sharded, whole):
    """Give the shards the whole model's weights."""
    with torch.no_grad():
        for name, parameter in sharded.named_parameters():
            full = dict(whole.named_parameters())[name].detach()
            parameter.copy_(distribute_tensor(full, parameter.device_mesh, parameter.placements))
    dist.barrier()


if __name__ == "__main__":
    run_as_rank(lambda: main(Path(sys.argv[1])))
