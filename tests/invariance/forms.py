"""Losses for trials: in both forms, learning of updates, with parameters, of the whole batch, and two that are wrong."""

import numpy as np
import torch

from plugrad import BatchLossInputs, LossInputs, LossOutputs, Mean, ModelSizes, TeacherDivergence, loss


@loss(needs={"old_logprobs", "entropy"})
def by_sequence(inputs: LossInputs) -> LossOutputs:
    ratio = (inputs.trainer_logprobs - inputs.old_logprobs).exp()
    summed = -(ratio * inputs.advantages + 0.1 * inputs.entropy)[inputs.loss_mask].sum()
    return LossOutputs(summed, {"ratio": Mean.over(ratio, inputs.loss_mask), "length": inputs.loss_mask.sum().double()})


@loss(needs={"old_logprobs", "entropy"})
def by_batch(inputs: BatchLossInputs) -> LossOutputs:
    ratio = (inputs.trainer_logprobs - inputs.old_logprobs).exp()
    per_token = -(ratio * inputs.advantages + 0.1 * inputs.entropy)
    return LossOutputs(per_token, {"ratio": Mean.over(ratio, inputs.loss_mask), "length": inputs.loss_mask.sum(1).double()})


@loss(needs={"old_logprobs", "entropy"}, whole_batch=True)
def by_whole_batch(inputs: BatchLossInputs) -> LossOutputs:
    """The same of all rows at once, though it mixes none."""
    return by_batch(inputs)


def gaps_by_sequence(inputs: LossInputs) -> LossOutputs:
    """Reports the length of sequences with an even one: the others have none."""
    length = int(inputs.loss_mask.sum())
    metrics = {"even": None if length % 2 else np.float32(length), "never": None}
    return LossOutputs(-(inputs.trainer_logprobs * inputs.advantages)[inputs.loss_mask].sum(), metrics)


def gaps_by_batch(inputs: BatchLossInputs) -> LossOutputs:
    lengths = inputs.loss_mask.sum(1).tolist()
    metrics = {"even": [None if length % 2 else length for length in lengths], "never": [None for _ in lengths]}
    return LossOutputs(-(inputs.trainer_logprobs * inputs.advantages), metrics)


def mean_of_its_own(inputs: BatchLossInputs) -> LossOutputs:
    per_token = -inputs.trainer_logprobs * inputs.advantages
    return LossOutputs(per_token * inputs.loss_mask / inputs.loss_mask.sum())


@loss(policy_gradient=True)
class Adaptive:
    """-A r + c (log r)^2 / 2, with c moved after every update so that the mean of (log r)^2 / 2 stays at a target."""

    def __init__(self, target: float = 1e-3) -> None:
        self._target, self._coefficient = target, 1.0

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        log_ratio = inputs.trainer_logprobs - inputs.inference_logprobs
        distance = log_ratio.square() / 2
        per_token = -inputs.advantages * log_ratio.exp() + self._coefficient * distance
        found = {"distance": Mean.over(distance, inputs.loss_mask), "coefficient": self._coefficient}
        return LossOutputs(per_token, found)

    def after_update(self, measures: dict[str, float]) -> None:
        self._coefficient *= 1.5 if measures["distance"] > self._target else 0.5
        self._coefficient += 0.01 * measures["loss"] + 0.01 * measures["distance"]

    def state_dict(self) -> dict[str, float]:
        return {"coefficient": self._coefficient}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._coefficient = state["coefficient"]


class CountsItsCalls:
    """Its coefficient grows with every call: the mistake that `after_update` is there to avoid."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        self._calls += 1
        return LossOutputs(-self._calls * inputs.advantages * inputs.trainer_logprobs)


@loss(needs={"embedding", "entropy"}, whole_batch=True)
def contrasts(inputs: BatchLossInputs) -> LossOutputs:
    """Each row against all others, those of its own prompt as positives."""
    rows = torch.nn.functional.normalize(inputs.embedding, dim=1)
    others = ~torch.eye(len(rows), dtype=torch.bool)
    log_shares = (rows @ rows.T / 0.1).masked_fill(~others, -torch.inf).log_softmax(dim=1)
    positive = (inputs.group_ids[:, None] == inputs.group_ids) & others
    weighted = torch.where(positive, log_shares, 0.0).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
    spread = inputs.trainer_logprobs.sum(dim=1).std() + inputs.entropy.sum()
    return LossOutputs(-weighted + 0.1 * spread, {"rows": float(len(rows)), "positives": positive.sum(dim=1).double()})


@loss(whole_batch=True)
def draws(inputs: BatchLossInputs) -> LossOutputs:
    """Takes a random half of the batch's tokens."""
    kept = torch.rand(inputs.loss_mask.shape) < 0.5
    return LossOutputs(-inputs.trainer_logprobs * inputs.advantages * kept)


@loss(needs={"values", "old_values", "returns"}, policy_gradient=False)
def clipped_values(inputs: BatchLossInputs) -> LossOutputs:
    near = inputs.old_values + (inputs.values - inputs.old_values).clamp(-0.02, 0.02)
    worse = torch.maximum((inputs.values - inputs.returns).square(), (near - inputs.returns).square())
    return LossOutputs(0.5 * worse, {"value": Mean.over(inputs.values, inputs.loss_mask)})


@loss(needs={"values", "returns"}, whole_batch=True, policy_gradient=False)
def explains(inputs: BatchLossInputs) -> LossOutputs:
    """The share of the variance of returns that the values leave open."""
    values, returns = (x[inputs.loss_mask] for x in (inputs.values, inputs.returns))
    # Not the variance of what is left: the bias of the head would then have a gradient of rounding errors alone.
    share = (returns - values).square().mean() / returns.var()
    return LossOutputs(share.expand(len(inputs.loss_mask)), {"explained": 1 - share.detach()})


def _per_token(logprobs, inputs):
    return -inputs.advantages * (logprobs - inputs.inference_logprobs).exp()


def _towards(sensitivity):
    return 0.05 * sensitivity / (sensitivity.norm(dim=-1, keepdim=True) + 1e-3)


@loss(needs={"again"}, passes=2)
def adversarial(inputs: BatchLossInputs) -> LossOutputs:
    """The loss, and that with each embedding moved in the direction that raises it most."""
    per_token = _per_token(inputs.trainer_logprobs, inputs)
    shift = _towards(inputs.sensitivity((per_token * inputs.loss_mask).sum()))
    moved = _per_token(inputs.again(shift).trainer_logprobs, inputs)
    return LossOutputs(per_token + 0.5 * moved, {"rise": Mean.over(moved - per_token, inputs.loss_mask)})


@loss(needs={"again", "entropy"}, passes=3)
def adversarial_in_two_steps(inputs: BatchLossInputs) -> LossOutputs:
    """The second step starts where the first has led."""
    shift, per_token = 0, _per_token(inputs.trainer_logprobs, inputs) - 0.1 * inputs.entropy
    total = per_token
    for _ in range(2):
        shift = shift + _towards(inputs.sensitivity((per_token * inputs.loss_mask).sum()))
        found = inputs.again(shift)
        per_token = _per_token(found.trainer_logprobs, inputs) - 0.1 * found.entropy
        total = total + 0.5 * per_token
    return LossOutputs(total)


@loss(needs={"again"}, passes=3, reduction="sequence")
def now_and_then(inputs: BatchLossInputs) -> LossOutputs:
    """Makes the passes that its rows call for: none, or one without a sensitivity."""
    per_token = -inputs.trainer_logprobs * inputs.advantages
    chosen = torch.tensor([[example["task"] == "math"] for example in inputs.metadata])
    if chosen.any():
        shift = 0.01 * (chosen & inputs.loss_mask)[..., None].expand(-1, -1, 32).double()
        per_token = per_token - chosen * 0.3 * inputs.again(shift).trainer_logprobs
    return LossOutputs(per_token)


@loss(needs={"entropy"}, policy_gradient=False)
class Uncertain:
    """A log-variance for each of two tasks: exp(-s) L + s, L being the surprise of a token and its entropy."""

    def trained(self, sizes: ModelSizes) -> torch.nn.Module:
        return torch.nn.ParameterDict({"log_variance": torch.zeros(2, dtype=sizes.dtype)})

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        s = inputs.parameters["log_variance"]
        per_token = -s[0].neg().exp() * inputs.trainer_logprobs + s[0] + s[1].neg().exp() * inputs.entropy + s[1]
        return LossOutputs(per_token, {"log_variance": s[0]})


@loss(needs={"embedding", "hidden_states"}, policy_gradient=False)
class Probes:
    """Predicts rewards' stand-in, the advantage, from hidden states, with a frozen part and random starting values."""

    def trained(self, sizes: ModelSizes) -> torch.nn.Module:
        hidden = torch.nn.Linear(sizes.hidden_size, 3, dtype=sizes.dtype)
        fixed = torch.nn.Linear(3, 3, bias=False, dtype=sizes.dtype).requires_grad_(False)
        self.module = torch.nn.Sequential(hidden, torch.nn.Tanh(), fixed, torch.nn.Linear(3, 1, dtype=sizes.dtype))
        return self.module

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        found = torch.func.functional_call(self.module, inputs.parameters, (inputs.hidden_states,)).squeeze(-1)
        return LossOutputs((found - inputs.advantages).square(), {"guess": Mean.over(found, inputs.loss_mask)})


@loss(needs={"embedding"}, whole_batch=True, policy_gradient=False)
class Tempered:
    """Each row against all others, through a projection and at a temperature that are learned."""

    def trained(self, sizes: ModelSizes) -> torch.nn.Module:
        self.projection = torch.nn.Linear(sizes.hidden_size, 4, bias=False, dtype=sizes.dtype)
        return torch.nn.ModuleDict(
            {"projection": self.projection, "scale": torch.nn.ParameterList([torch.ones(1, dtype=sizes.dtype)])}
        )

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        weight = {"weight": inputs.parameters["projection.weight"]}
        rows = torch.nn.functional.normalize(torch.func.functional_call(self.projection, weight, (inputs.embedding,)), dim=1)
        others = ~torch.eye(len(rows), dtype=torch.bool)
        scale = inputs.parameters["scale.0"].exp()
        log_shares = (rows @ rows.T * scale).masked_fill(~others, -torch.inf).log_softmax(dim=1)
        positive = (inputs.group_ids[:, None] == inputs.group_ids) & others
        weighted = torch.where(positive, log_shares, 0.0).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
        return LossOutputs(-weighted, {"scale": scale.detach()})


@loss(needs=lambda options: {TeacherDivergence(options["kind"], temperature=options["temperature"])}, policy_gradient=False)
def follows(inputs: BatchLossInputs, kind: str = "forward", temperature: float = 2.0) -> LossOutputs:
    """The divergence from the teacher."""
    divergence = inputs.teacher_divergence
    return LossOutputs(temperature**2 * divergence, {"divergence": Mean.over(divergence, inputs.loss_mask)})


@loss(needs={TeacherDivergence("jsd", beta=0.3)}, policy_gradient=False)
def follows_half(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(inputs.teacher_divergence.square() * inputs.loss_mask)


@loss(needs={TeacherDivergence("reverse")}, whole_batch=True, policy_gradient=False)
def follows_the_worst(inputs: BatchLossInputs) -> LossOutputs:
    """Mixes the rows: what is far from the teacher counts more."""
    divergence = inputs.teacher_divergence
    share = divergence / divergence[inputs.loss_mask].mean()
    return LossOutputs(share.square())


@loss(needs={"logits", "teacher_logits"}, policy_gradient=False)
def distils(inputs: BatchLossInputs) -> LossOutputs:
    """The forward divergence from whole logits."""
    own, theirs = (x.log_softmax(dim=2) for x in (inputs.logits, inputs.teacher_logits))
    return LossOutputs((theirs.exp() * (theirs - own)).sum(dim=2))
