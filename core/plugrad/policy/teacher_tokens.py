"""A teacher as the policy is compared with it: its last hidden states, its head, and blocks of its logits."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from plugrad.contracts.needs import TeacherDivergence
from plugrad.policy.blocks import Plan, Workspace, product_dtype_of


@dataclass(frozen=True)
class LogitSource:
    """What a teacher's logits follow from: x = scaling * (hidden @ weight.T + bias), or softcap * tanh(x / softcap).

    One hidden state for each token that the policy scores. Its size and the vocabulary may differ from the policy's. All of
    it is constant: no gradient flows to a teacher.
    """

    hidden: Float[Tensor, "tokens teacher_hidden"]
    weight: Float[Tensor, "teacher_vocab teacher_hidden"]
    bias: Float[Tensor, "teacher_vocab"] | None = None
    scaling: float = 1.0
    softcap: float | None = None


@dataclass(frozen=True)
class Comparison:
    """The computation: log-probs and entropy as `plan` has them, and what is asked of the two distributions."""

    plan: Plan
    temperature: float
    """Of the log-probs: z is the policy's logits over it."""
    asked: tuple[TeacherDivergence, ...]
    teacher_plan: Plan
    """u = the teacher's logits over the last of `temperatures`."""

    @classmethod
    def of(cls, plan: Plan, temperature: float, asked: tuple[TeacherDivergence, ...], teacher: LogitSource) -> Comparison:
        """Return the plan of a comparison with this teacher."""
        own = ordered_temperatures(asked, temperature)[-1]
        bound = None if teacher.softcap is None else teacher.softcap / own
        teacher_plan = Plan(
            teacher.scaling / own, bound, "none", product_dtype_of(teacher.hidden), gradient_in_forward=False
        )
        return cls(plan, temperature, asked, teacher_plan)

    @property
    def temperatures(self) -> list[float]:
        """Each temperature once. The last one's softmaxes need no copy of a block."""
        return ordered_temperatures(self.asked, self.temperature)

    def factors(self, temperature: float) -> tuple[float, float]:
        """Return what turns z and u into logits over `temperature`."""
        return self.temperature / temperature, self.temperatures[-1] / temperature

    def asked_at(self, temperature: float) -> list[tuple[int, TeacherDivergence]]:
        """Return what is asked at this temperature, with its place among all that is asked."""
        return [(place, one) for place, one in enumerate(self.asked) if one.temperature == temperature]


def ordered_temperatures(asked: tuple[TeacherDivergence, ...], temperature: float) -> list[float]:
    """Return each temperature that is asked for once, that of the log-probs last."""
    return sorted({one.temperature for one in asked}, key=lambda one: (one == temperature, one))


class TeacherBlocks:
    """Blocks of the teacher's u, formed beside the policy's z."""

    def __init__(
        self,
        hidden: Float[Tensor, "tokens teacher_hidden"],
        weight: Float[Tensor, "teacher_vocab teacher_hidden"],
        bias: Float[Tensor, "teacher_vocab"] | None,
        comparison: Comparison,
    ) -> None:
        self.vocab = len(weight)
        self._head, self._hidden, self._plan = (weight, bias), hidden, comparison.teacher_plan
        self._dtype = comparison.plan.sum_dtype
        self._workspace = Workspace(self._plan, hidden, self.vocab)

    def u(self, rows: slice, columns: slice) -> Float[Tensor, "rows columns"]:
        """Return one block in the dtype of the policy's z. The next call overwrites it."""
        hidden = self._hidden[rows].to(self._plan.product_dtype)
        return self._workspace.z(hidden, *self._plan.head_block(*self._head, columns)).to(self._dtype)


class Scratch:
    """Buffers for one block each, by name. They are made when they are first used."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, block: Tensor) -> Tensor:
        """Return the buffer in the block's shape."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < block.numel():
            buffer = self._buffers[name] = block.new_empty(block.numel())
        return buffer[: block.numel()].view(block.shape)
