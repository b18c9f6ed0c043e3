"""Running sums over blocks of two vocabularies, for the divergences between the policy and its teacher."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from plugrad.contracts.needs import TeacherDivergence
from plugrad.policy.online_softmax import Sums
from plugrad.policy.teacher_tokens import Comparison, Scratch

NOTHING = -1e30
"""Below every difference of logits, and finite: the sums before the first block are 0, and 0 * -inf would be NaN."""
GAP_BOUNDS = -1e4, 80.0
"""Of log p_T - log p_S in a mixture. Beyond them p_T is 0 even in float64, or p_S at most e^-80: neither changes a digit."""


class Softmaxes(NamedTuple):
    """The normalizers of both distributions at one temperature, over the columns that both heads have."""

    student_factor: float
    student_peak: Float[Tensor, "rows"]
    """The largest z"""
    student_total: Float[Tensor, "rows"]
    """sum exp(factor (z - peak))"""
    teacher_factor: float
    teacher_peak: Float[Tensor, "rows"]
    """The largest u"""
    teacher_total: Float[Tensor, "rows"]

    @property
    def normalizers(self) -> tuple[Float[Tensor, "rows"], Float[Tensor, "rows"]]:
        """log sum exp of the policy's and of the teacher's logits."""
        return (
            self.student_peak * self.student_factor + self.student_total.log(),
            self.teacher_peak * self.teacher_factor + self.teacher_total.log(),
        )


@dataclass
class SoftenedSums:
    """Sums at one temperature. Logits are relative to the largest of their distribution, and so are gaps between the two.

    The gap of raw logits would lose digits: both may be large while the distributions are close.
    """

    student_factor: float
    teacher_factor: float
    student_total: Float[Tensor, "rows"] | None
    """None at the temperature of the log-probs: theirs is the same."""
    teacher_total: Float[Tensor, "rows"]
    forward: Float[Tensor, "rows"] | None
    """sum exp(teacher's) (teacher's - student's), if it is asked for"""
    reverse: Float[Tensor, "rows"] | None
    """sum exp(student's) (student's - teacher's), if it is asked for"""

    @classmethod
    def of_nothing(cls, comparison: Comparison, temperature: float, zeros: Float[Tensor, "rows"]) -> SoftenedSums:
        """Return the sums before the first block."""
        student_factor, teacher_factor = comparison.factors(temperature)
        kinds = {one.kind for _, one in comparison.asked_at(temperature)}
        forward, reverse = (zeros.clone() if kind in kinds else None for kind in ("forward", "reverse"))
        own = None if student_factor == 1 else zeros.clone()
        return cls(student_factor, teacher_factor, own, zeros.clone(), forward, reverse)

    def raise_peaks(self, by_student: Tensor, by_teacher: Tensor, student_total: Tensor) -> None:
        """Make the sums relative to new peaks, given old minus new. `student_total`, of the log-probs, is already."""
        by_student = (by_student * self.student_factor).clamp_(min=NOTHING)
        by_teacher = (by_teacher * self.teacher_factor).clamp_(min=NOTHING)
        shrink_student, shrink_teacher = by_student.exp(), by_teacher.exp()
        wider = by_teacher - by_student
        self.teacher_total.mul_(shrink_teacher)
        if self.student_total is not None:
            student_total = self.student_total.mul_(shrink_student)
        if self.forward is not None:
            self.forward.mul_(shrink_teacher).addcmul_(wider, self.teacher_total)
        if self.reverse is not None:
            self.reverse.mul_(shrink_student).addcmul_(wider, student_total, value=-1)

    def add(self, z: Tensor, u: Tensor, scratch: Scratch, *, impossible: bool) -> None:
        """Add a block of both logits, relative to their peaks. At the last temperature this overwrites u, never z."""
        student = scaled(z, self.student_factor, scratch, "student")
        teacher = scaled(u, self.teacher_factor, scratch, "teacher")
        gap = None
        if self.forward is not None or self.reverse is not None:
            gap = torch.sub(teacher, student, out=scratch("gap", z))
        if self.student_total is not None or self.reverse is not None:
            # Without entropy the log-probs still need z.
            terms = torch.exp(student, out=scratch("student", z))
            if self.student_total is not None:
                self.student_total += terms.sum(dim=1)
            if self.reverse is not None and gap is not None:
                self.reverse -= _sum_of(terms.mul_(gap), impossible=impossible)
        terms = teacher.exp_()
        self.teacher_total += terms.sum(dim=1)
        if self.forward is not None and gap is not None:
            self.forward += _sum_of(gap.mul_(terms), impossible=impossible)


class DivergenceSums:
    """The sums at every temperature that is asked for."""

    def __init__(self, comparison: Comparison, log_probs: Sums, scratch: Scratch, *, impossible: bool) -> None:
        zeros = torch.zeros_like(log_probs.total)
        self._comparison, self._log_probs, self._scratch = comparison, log_probs, scratch
        self._impossible = impossible
        self._student_peak = torch.full_like(zeros, NOTHING)
        self._teacher_peak = torch.full_like(zeros, NOTHING)
        self.softened = [SoftenedSums.of_nothing(comparison, one, zeros) for one in comparison.temperatures]

    def add(self, z: Float[Tensor, "rows columns"], u: Float[Tensor, "rows columns"]) -> None:
        """Add a block: z relative to the peak of the log-probs' sums, which is raised already, and u, overwritten."""
        student_peak, teacher_peak = self._log_probs.peak, torch.maximum(self._teacher_peak, u.amax(dim=1))
        u.sub_(teacher_peak.unsqueeze(1))
        for sums in self.softened:
            sums.raise_peaks(self._student_peak - student_peak, self._teacher_peak - teacher_peak, self._log_probs.total)
        self._student_peak, self._teacher_peak = student_peak, teacher_peak
        for sums in self.softened:
            sums.add(z, u, self._scratch, impossible=self._impossible)

    def softmaxes(self) -> list[Softmaxes]:
        """Return the normalizers at each temperature, after the last column that both heads have."""
        return [
            Softmaxes(
                sums.student_factor,
                self._student_peak,
                self._log_probs.total.clone() if sums.student_total is None else sums.student_total,
                sums.teacher_factor,
                self._teacher_peak,
                sums.teacher_total,
            )
            for sums in self.softened
        ]

    def value(self, one: TeacherDivergence, softmaxes: list[Softmaxes]) -> Float[Tensor, "rows"]:
        """Return a forward or reverse divergence. Both peaks cancel."""
        place = self._comparison.temperatures.index(one.temperature)
        sums, student, teacher = self.softened[place], softmaxes[place].student_total, softmaxes[place].teacher_total
        surplus = student.log() - teacher.log()
        if one.kind == "forward":
            assert sums.forward is not None
            return sums.forward / teacher + surplus
        assert sums.reverse is not None
        return sums.reverse / student - surplus


class MixtureSums:
    """Sums at one temperature for Jensen-Shannon divergences, which need both normalizers before they begin.

    With gap = log p_T - log p_S, log m - log p_S = log1p(beta expm1(gap)) =: lift, which keeps every digit of a small gap,
    and jsd = beta sum p_T (gap - lift) - (1 - beta) sum p_S lift.
    """

    def __init__(self, softmaxes: Softmaxes, asked: list[tuple[int, TeacherDivergence]]) -> None:
        self._softmaxes = softmaxes
        self._betas = {place: one.beta for place, one in asked if one.kind == "jsd"}
        self._teacher_parts = {place: torch.zeros_like(softmaxes.student_total) for place in self._betas}
        self.lifts = {place: torch.zeros_like(softmaxes.student_total) for place in self._betas}
        """sum p_S lift, by the place among what is asked"""

    def add(self, z: Float[Tensor, "rows columns"], u: Float[Tensor, "rows columns"], scratch: Scratch) -> None:
        """Add a block of both logits. It overwrites neither."""
        student = _log_softmax(z, *self._softmaxes[:3], scratch("student", z))
        teacher = _log_softmax(u, *self._softmaxes[3:], scratch("teacher", z))
        gap = bounded_gap(teacher, student, scratch("gap", z))
        student.exp_()
        teacher.exp_()
        for place, beta in self._betas.items():
            lift = lift_of(gap, beta, scratch("lift", z))
            product = scratch("product", z)
            self.lifts[place] += torch.mul(student, lift, out=product).sum(dim=1)
            self._teacher_parts[place] += torch.mul(teacher, lift.sub_(gap).neg_(), out=product).sum(dim=1)

    def values(self) -> dict[int, Float[Tensor, "rows"]]:
        """Return the divergences by their place among what is asked."""
        return {
            place: beta * self._teacher_parts[place] - (1 - beta) * self.lifts[place] for place, beta in self._betas.items()
        }


def scaled(block: Tensor, factor: float, scratch: Scratch, name: str) -> Tensor:
    """Return the block times a factor: itself, or a copy in scratch."""
    return block if factor == 1 else torch.mul(block, factor, out=scratch(name, block))


def bounded_gap(teacher: Tensor, student: Tensor, out: Tensor) -> Tensor:
    """Return log p_T - log p_S where it matters to a mixture, and 0 where neither token is possible."""
    gap = torch.sub(teacher, student, out=out)
    return gap.nan_to_num_(0.0, math.inf, -math.inf).clamp_(*GAP_BOUNDS)


def lift_of(gap: Tensor, beta: float, out: Tensor) -> Tensor:
    """Return log m - log p_S of the mixture m = beta p_T + (1 - beta) p_S."""
    return torch.expm1(gap, out=out).mul_(beta).log1p_()


def _log_softmax(block: Tensor, factor: float, peak: Tensor, total: Tensor, out: Tensor) -> Tensor:
    # First relative to the peak: both are large, and their difference loses no digit.
    relative = torch.sub(block, peak.unsqueeze(1), out=out)
    return (relative if factor == 1 else relative.mul_(factor)).sub_(total.log().unsqueeze(1))


def _sum_of(terms: Tensor, *, impossible: bool) -> Float[Tensor, "rows"]:
    """Sum over the columns. A token that the weighting distribution cannot choose adds 0, not 0 * inf."""
    return (terms.nan_to_num_(0.0, math.inf, -math.inf) if impossible else terms).sum(dim=1)
