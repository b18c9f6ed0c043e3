"""One recorded batch of rollouts, and three updates on it: on one rank or several, cut in any way, in float64."""

import itertools
import random
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import torch
from held_out import HeldOutNumbers
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.functional import pad
from transformers import AutoConfig, AutoModelForImageTextToText

from plugrad import RunFile, hookimpl
from plugrad.config.tables.checkpoint_table import CheckpointTable
from plugrad.config.tables.own_optimizer_table import OwnOptimizerTable
from plugrad.contracts.where import Where
from plugrad.host.advantage import BoundAdvantage
from plugrad.host.hooks import Hooks, Host
from plugrad.host.load import load_component
from plugrad.host.loss import BoundLoss
from plugrad.host.metric import BoundMetric
from plugrad.host.plugin_state import keeps_state
from plugrad.host.stateful_parts import StatefulPart
from plugrad.policy.loading import LoadedModel, load_model
from plugrad.policy.lora import add_adapter
from plugrad.policy.micro_batches import Layout
from plugrad.policy.policy import Policy
from plugrad.registry.scan import scan as scan_anew
from plugrad.testing import tiny_model, tiny_tokenizer
from plugrad.trainer.batch.cut import Cutting
from plugrad.trainer.batch.prefetch import WhenNeeded
from plugrad.trainer.batch.sampler import RolloutBatch
from plugrad.trainer.checkpoints.checkpoint_folder import newest_whole
from plugrad.trainer.checkpoints.resuming import put_back
from plugrad.trainer.checkpoints.snapshot import Contents, Place
from plugrad.trainer.checkpoints.writing import Checkpoints
from plugrad.trainer.ranks.accelerate_config import SHARDED_PRECISION, make_accelerator
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.record.step_record import Cost, make_record
from plugrad.trainer.update.frozen_models import load_frozen_models
from plugrad.trainer.update.learner import make_learner
from plugrad.trainer.update.rollout_scores import with_scores
from plugrad.trainer.update.run_progress import Progress
from plugrad.trainer.update.run_updates import run_updates
from plugrad.trainer.update.teaching import ITSELF, Teachers

REDUCTIONS = ["token", "sequence", "sequence_sum", "constant", "group"]
METRICS = ["reward", "completion_length", "entropy", "inference_mismatch", "advantage"]
SEVERAL = (
    ("ppo_clip", 1.0, "token"),
    ("kl_to_reference", 0.3, "sequence"),
    ("entropy_bonus", 0.1, "group"),
    ("importance_sampling", 0.5, "constant"),
    ("cross_entropy", 0.2, "sequence_sum"),
)
ALL_AT_ONCE = 10_000
FULL = MixedPrecisionPolicy()
scan = cache(scan_anew)
STEPS = 3


@dataclass(frozen=True)
class Scenario:
    """What is trained on, and how it is cut."""

    seed: int = 0
    terms: tuple[tuple[str, float, str], ...] = (("ppo_clip", 1.0, "token"),)
    """Loss, weight, reduction."""
    options: tuple[tuple[str, object], ...] = ()
    """Of the first loss."""
    where: tuple[tuple[str, object], ...] = ()
    """The examples that the first loss counts."""
    folder: str | None = None
    """Where losses in files lie."""
    num_groups: int = 4
    shares: tuple[int, ...] = (1,)
    """How the groups are dealt to the ranks, as proportions."""
    budget: int = ALL_AT_ONCE
    updates_per_batch: int = 1
    dead_group: bool = False
    """One group's advantages are all zero."""
    empty: bool = False
    """One sequence has no counted token."""
    turned: bool = False
    """The groups, and the sequences within them, come in the opposite order."""
    alike: bool = False
    """The rollouts of a group answer the same prompt, begin with the same tokens and have the same advantage."""
    turns: bool = False
    """The environment wrote between the sampled tokens, and some rollouts are in several segments."""
    extra_padding: int = 0
    """Columns of padding that nobody needs."""
    teachers: tuple[str, ...] = ()
    """Their names: of tasks, where there are several. With a ! behind it, it is the policy, which reads more."""
    critic: bool = False
    """Values are estimated, and advantages and returns are made of them."""
    checkpointing: bool = False
    sharded: bool = False
    checkpoint_in: str | None = None
    """A run folder, in which a checkpoint is left after the first step."""
    goes_on_in: str | None = None
    """A run folder with such a checkpoint, from which the steps go on."""
    optimizer: tuple[tuple[str, object], ...] = ()
    """More keys of `[optimizer]`."""
    memory: tuple[tuple[str, bool], ...] = ()
    """Keys of `[memory]`."""
    save_to: str | None = None
    """Where the trained model is left, as a run would leave it."""
    model: tuple[tuple[str, object], ...] = ()
    """Fields of its configuration."""
    dtypes: tuple[tuple[str, str], ...] = (("dtype", "float64"),)
    """What is stored and computed in: keys of `[model]`."""
    base: str | None = None
    """A folder with the model, for what only a model that is loaded can be."""
    lora: tuple[tuple[str, object], ...] | None = None
    """Keys of `[model.lora]`: an adapter is trained, and not the model."""
    sees: bool = False
    """The model has a vision tower, which no text reaches."""
    evaluates: bool = False
    """Metrics also measure the completions of the batch after each step, as held-out ones."""


@dataclass(frozen=True)
class Result:
    """What three steps did, whole on every rank."""

    records: list[dict[str, float]]
    """Of each update, as if it were a whole step."""
    gradients: list[list[torch.Tensor]]
    """Of every parameter at each update, clipped."""
    parameters: list[torch.Tensor]
    """After the last, those of losses among them."""
    num_micro_batches: int
    """The most in an update."""


class Gradients:
    """An extension that keeps the gradients which each update applies."""

    def __init__(self, model):
        self.model = model
        self.kept = []

    @hookimpl
    def before_update(self):
        self.kept.append([whole(parameter.grad) for parameter in self.model.parameters()])


def with_eyes():
    """Return a multimodal model around the layers of a Llama."""
    common = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"model_type": "llama", "num_key_value_heads": 2, "vocab_size": len(tiny_tokenizer()), **common}
    vision = {"model_type": "clip_vision_model", "image_size": 28, "patch_size": 14, **common}
    config = AutoConfig.for_model("llava", text_config=text, vision_config=vision, image_token_index=1)
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(config, dtype=torch.float64)


def whole(tensor):
    if tensor is None:
        return torch.zeros(())
    tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return tensor.detach().clone()


def recorded(scenario, ranks):
    """Groups of three with lengths drawn at random; prompts differ in length too. This rank's share of them."""
    draw = random.Random(scenario.seed)
    groups = [[_rollout(draw, group) for _ in range(3)] for group in range(scenario.num_groups)]
    if scenario.alike:
        groups = [[_beginning_like(group[0], rollout) for rollout in group] for group in groups]
    if scenario.turns:
        groups = [[{**rollout, "segments": _segments(draw, rollout)} for rollout in group] for group in groups]
    if scenario.empty:
        groups[1][2].update(completion_ids=[], inference_logprobs=[])
    drawn = [[draw.uniform(-1, 1) * (not scenario.dead_group or g != 2) for _ in group] for g, group in enumerate(groups)]
    advantages = [
        [[row[0 if scenario.alike else place]] * len(r["completion_ids"]) for place, r in enumerate(group)]
        for row, group in zip(drawn, groups, strict=True)
    ]
    rewards = [[rollout["reward"] for rollout in group] for group in groups]
    if scenario.turned:
        groups, advantages, rewards = ([group[::-1] for group in column[::-1]] for column in (groups, advantages, rewards))
    edges = [round(scenario.num_groups * sum(scenario.shares[:i]) / sum(scenario.shares)) for i in range(ranks.count + 1)]
    own = slice(edges[ranks.index], edges[ranks.index + 1])
    return RolloutBatch(groups[own], rewards=rewards[own], advantages=advantages[own], first_group=edges[ranks.index])


def _rollout(draw, group):
    ids = [draw.randrange(3, 100) for _ in range(draw.randint(1, 12))]
    return {
        "prompt_ids": [draw.randrange(3, 100) for _ in range(2 + group)],
        "completion_ids": ids,
        "inference_logprobs": [draw.uniform(-5, -3) for _ in ids],
        "reward": draw.uniform(0, 1),
        "reward_components": {},
        "metrics": {"digits": float(len(ids) % 3)},
        "truncated": len(ids) == 12,
        "example": {"example_id": group, "task": "math" if group % 2 else "code"},
    }


def _segments(draw, rollout):
    """Cut the completion into one to three rows, each with a prompt of its own and tokens of the environment in between."""
    ids = rollout["completion_ids"]
    ends = sorted(draw.sample(range(1, len(ids)), min(draw.randrange(3), len(ids) - 1)))
    segments = []
    for start, stop in itertools.pairwise([0, *ends, len(ids)]):
        prompt = [draw.randrange(3, 100) for _ in range(draw.randint(1, 5))]
        row, sampled = list(prompt), [False] * len(prompt)
        for token in ids[start:stop]:
            observed = [draw.randrange(3, 100) for _ in range(draw.choice([0, 0, 2]))]
            row += [*observed, token]
            sampled += [False] * len(observed) + [True]
        segments.append({"ids": row, "sampled": sampled})
    return segments


def _beginning_like(first, rollout):
    ids = first["completion_ids"] + rollout["completion_ids"][len(first["completion_ids"]) :]
    return {**rollout, "prompt_ids": first["prompt_ids"], "completion_ids": ids[: len(rollout["completion_ids"])]}


def losses(scenario):
    bound = []
    for name, weight, reduction in scenario.terms:
        options = {} if bound else dict(scenario.options)
        component = load_component("loss", name, options, scan(), [scenario.folder] if scenario.folder else [])
        label = f"{component.name}/{reduction}"
        where = Where.of(dict(scenario.where)) if scenario.where and not bound else None
        own = OwnOptimizerTable(lr=3e-2, weight_decay=0.1) if hasattr(component.target, "trained") else None
        place = {"weight": weight, "reduction": reduction, "where": where, "optimizer": own}
        bound.append(BoundLoss.create(component, label=label, **place))
    return bound


def metrics():
    components = [load_component("metric", name, {}, scan(), []) for name in METRICS]
    return [BoundMetric(component, component.create(), component.name) for component in components]


def run_file(scenario):
    return RunFile(
        max_steps=STEPS,
        updates_per_batch=scenario.updates_per_batch,
        model={
            **({"name": scenario.base} if scenario.base else {"from_scratch": {"model_type": "qwen3"}}),
            "lora": None if scenario.lora is None else dict(scenario.lora),
            **dict(scenario.dtypes),
        },
        environment={"name": "arithmetic"},
        rollout={"prompts_per_step": 4},
        optimizer={"lr": 1e-2, "max_grad_norm": 0.05, "schedule": "linear", **dict(scenario.optimizer)},
        critic={"lr": 3e-2} if scenario.critic else None,
        memory=dict(scenario.memory),
    )


def accelerator_of(scenario):
    """Return this process's, in the precision that the scenario computes in."""
    return make_accelerator(run_file(scenario).model)


def loaded_model(scenario, file):
    torch.manual_seed(1)
    if scenario.base:
        return load_model(file.model, [])
    model = with_eyes() if scenario.sees else tiny_model(dtype=file.model.dtype, **dict(scenario.model))
    if file.model.compute_dtype:
        # They begin at numbers that bfloat16 has, so that two ways to compute in it can be compared to the bit.
        for parameter in model.parameters():
            parameter.data = parameter.data.bfloat16().to(parameter.dtype)
    if scenario.checkpointing:
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)({"use_reentrant": False})
    torch.manual_seed(1)
    adapter = None if file.model.lora is None else add_adapter(model, file.model.lora, "the/base")
    return LoadedModel(model, tiny_tokenizer(), adapter=adapter)


def learner_of(scenario, bound, accelerator, ranks):
    file = run_file(scenario)
    loaded = loaded_model(scenario, file)
    # The eager kind computes its softmax in float32.
    assert loaded.model.config._attn_implementation == "sdpa"
    needs = frozenset({"entropy"}).union(*(loss.needs for loss in bound))
    frozen = load_frozen_models(file, loaded, needs, accelerator.device)
    mixed = accelerator.mixed_precision == "bf16"
    wrap = partial(shard, precision=SHARDED_PRECISION if mixed else FULL) if scenario.sharded else None
    first = frozenset({"values"} if scenario.critic else ())
    teachers = teachers_of(scenario)
    return make_learner(
        file,
        loaded,
        frozen,
        bound,
        teachers=teachers,
        needs=needs,
        scores_first=first,
        accelerator=accelerator,
        ranks=ranks,
        wrap=wrap,
    )


def teachers_of(scenario):
    """Return models of other seeds and sizes, and the policy itself."""
    made = {
        name.rstrip("!"): ITSELF if name.endswith("!") else another_model(seed=40 + place)
        for place, name in enumerate(scenario.teachers)
    }
    return Teachers(made, "task" if len(made) > 1 else None) if made else None


def another_model(seed):
    return Policy(tiny_model(seed, hidden_size=48, dtype="float64").eval().requires_grad_(False), temperature=1.0)


def more_to_read(example):
    """Return what a policy that is its own teacher reads in place of the prompt."""
    return [1, 2 + example["example_id"], *[3] * 5]


def shard(policy, optimizer, precision=FULL):
    """Shard as Accelerate does where there is an accelerator: every layer, then the rest. On a CPU it would not."""
    places = {id(parameter): place for place, parameter in enumerate(policy.parameters())}
    chosen = [[places[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
    layers = getattr(policy.model.model, "language_model", policy.model.model).layers
    for layer in layers:
        fully_shard(layer, mp_policy=precision)
    if policy.critic is not None:
        fully_shard(policy.critic.head, mp_policy=precision)
    for of_loss in policy.trained.values():
        fully_shard(of_loss, mp_policy=precision)
    fully_shard(policy, mp_policy=precision)
    sharded = list(policy.parameters())
    for group, own in zip(optimizer.param_groups, chosen, strict=True):
        group["params"] = [sharded[place] for place in own]
    return policy, optimizer


class Cuts:
    """Cuts as a run does, then pads what was cut, and remembers how many micro-batches an update had at most."""

    def __init__(self, scenario, bound, dtype):
        # Where padding is said to cost nothing, the batch is cut for the budget alone.
        layout = Layout(scenario.budget, 0, dtype, packed=scenario.budget == ALL_AT_ONCE)
        wheres = {loss.label: loss.where for loss in bound if loss.where}
        self.cutting = Cutting(scenario.updates_per_batch, 16, layout, wheres=wheres)
        if any(name.endswith("!") for name in scenario.teachers):
            self.cutting = replace(self.cutting, teacher_prompt=more_to_read)
        self.extra_padding = scenario.extra_padding
        self.num_micro_batches = 0

    def cut(self, batch, ranks):
        parts = self.cutting.cut(batch, ranks)
        self.num_micro_batches = max(self.num_micro_batches, *(len(part.micro_batches) for part in parts))
        return [replace(part, micro_batches=[padded(m, self.extra_padding) for m in part.micro_batches]) for part in parts]


def three_steps(scenario, accelerator, ranks=None):
    """Train three steps on the same batch."""
    ranks = ranks or Ranks()
    bound = losses(scenario)
    learner = learner_of(scenario, bound, accelerator, ranks)
    batch = recorded(scenario, ranks)
    gradients = Gradients(accelerator.unwrap_model(learner.policy))
    advantage, extension = (
        load_component("advantage", "constant", {}, scan(), []),
        load_component("extension", "timing", {}, scan(), []),
    )
    hooks = Hooks(Host(BoundAdvantage(advantage, advantage.create()), metrics()), [(extension, gradients)])
    cuts, cost = Cuts(scenario, bound, learner.dtype), Cost(seconds=1.0, rollouts_s=0.5, memory_gib=1.0)
    records = []
    held_out = HeldOutNumbers(METRICS, learner, cuts.cutting) if scenario.evaluates else None
    first = put_back_from(scenario, learner, bound)
    for step in range(first, STEPS):
        scored = of_values(batch, learner, cuts.cutting)
        for update in run_updates(learner, scored, cuts, hooks, Progress(step, STEPS)):
            records.append(make_record(step, batch, [update], cost, ranks))
        if held_out:
            records[-1] |= held_out.of(batch, ranks, Progress(step + 1, STEPS))
        if scenario.checkpoint_in and step == 0:
            keep_in(Path(scenario.checkpoint_in), learner, bound)
    if scenario.save_to:
        state_dict = learner.whole_weights() if learner.is_sharded else None
        if ranks.is_main:
            learner.save(Path(scenario.save_to), state_dict)
    return Result(
        records,
        gradients.kept,
        [whole(p) for p in accelerator.unwrap_model(learner.policy).parameters()],
        cuts.num_micro_batches,
    )


def parts_of(bound):
    parts = [StatefulPart(f"loss/{loss.label}", loss.component, loss.instance) for loss in bound]
    return [part for part in parts if keeps_state(part.component, part.instance)]


def keep_in(folder, learner, bound):
    """Leave a checkpoint after the first step, as a run would."""
    examples = SimpleNamespace(train_examples=list, eval_examples=list)
    contents = Contents(learner, WhenNeeded(None), parts_of(bound), [])
    checkpoints = Checkpoints(folder, CheckpointTable(), contents, examples)
    checkpoints.after_step(Place(1, learner.scheduler.last_epoch), is_asked=True)
    checkpoints.close()
    assert not learner.ranks.is_main or checkpoints.latest == 1


def put_back_from(scenario, learner, bound):
    """Put back what a checkpoint holds, if the scenario goes on from one; return how many steps were done."""
    if scenario.goes_on_in is None:
        return 0
    return put_back(newest_whole(Path(scenario.goes_on_in)), learner, parts_of(bound), []).place.step


def of_values(batch, learner, cutting):
    """Return the batch with the critic's values, and with advantages and returns that follow from them."""
    if not learner.scores_first:
        return batch
    scored = with_scores(batch, learner, cutting)
    rewarded = [zip(*columns, strict=True) for columns in zip(scored.scores["values"], batch.rewards, strict=True)]
    returns = [[[reward + 0.3 * later for later in values[1:]] for values, reward in group] for group in rewarded]
    advantages = [
        [[r - v for r, v in zip(row, values[:-1], strict=True)] for row, values in zip(*group, strict=True)]
        for group in zip(returns, scored.scores["values"], strict=True)
    ]
    return replace(scored, advantages=advantages, returns=returns)


def padded(micro_batch, columns):
    """Add columns that attend to nothing and count for nothing; the ids in them are garbage."""
    if not columns:
        return micro_batch
    wider = {
        name: pad(value, (0, columns), value=7 if name == "input_ids" else 0)
        for name, value in vars(micro_batch).items()
        if isinstance(value, torch.Tensor) and value.ndim == 2
    }
    return replace(micro_batch, **wider)


def assert_same(found, expected):
    """Compare losses, norms, metrics, every gradient and every parameter."""
    for record, wanted in zip(found.records, expected.records, strict=True):
        assert record.keys() == wanted.keys()
        for name, value in wanted.items():
            assert _close(record[name], value), f"{name}: {record[name]!r} instead of {value!r}"
    for gradients, wanted in zip(found.gradients, expected.gradients, strict=True):
        for gradient, its in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(gradient, its, rtol=1e-9, atol=1e-11)
    for parameter, its in zip(found.parameters, expected.parameters, strict=True):
        torch.testing.assert_close(parameter, its, rtol=1e-9, atol=1e-11)


def _close(found, wanted):
    both_nan = found != found and wanted != wanted
    return both_nan or abs(found - wanted) <= 1e-9 * max(abs(found), abs(wanted)) + 1e-12
