"""The numbers of a run file: finite, and small enough for every part of a run that receives them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Between:
    """A validator with limits that no sensible value comes near. The reference of the keys does not list them."""

    least: float
    most: float

    def __call__(self, value: Number) -> Number:
        """Return the value.

        Raises:
            ValueError: it is outside the limits, or NaN.
        """
        if not self.least <= value <= self.most:
            raise ValueError(f"write a number from {self.least:,g} to {self.most:,.15g}")
        return value


COUNTS = AfterValidator(Between(0, 2**31 - 1))
"""Indices of 32 bits hold such counts."""

Count = Annotated[int, Field(gt=0), COUNTS]
CountOrZero = Annotated[int, Field(ge=0), COUNTS]
NumProcesses = Annotated[int, Field(gt=0), AfterValidator(Between(1, 1024))]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""NumPy's generators take no other."""
IN_FLOAT32 = 1e30
"""Tensors of float32 hold such numbers, and their products with ordinary ones."""
Finite = Annotated[float, Field(allow_inf_nan=False), AfterValidator(Between(-IN_FLOAT32, IN_FLOAT32))]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), AfterValidator(Between(1 / IN_FLOAT32, IN_FLOAT32))]
PositiveOrInf = Annotated[float, Field(gt=0), AfterValidator(Between(1 / IN_FLOAT32, math.inf))]
"""A bound that inf turns off."""
PositiveOrZero = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(Between(0, IN_FLOAT32))]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0), AfterValidator(Between(1e-3, 1e9))]
"""Python's timers take no more than 9e9 seconds."""
Temperature = Annotated[float, Field(gt=0), AfterValidator(Between(1e-6, 1e6))]
"""Logits divided by less are not finite, divided by more all the same."""
