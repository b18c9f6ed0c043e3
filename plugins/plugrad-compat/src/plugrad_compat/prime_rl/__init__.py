"""prime-rl: what its losses and advantages import.

`from prime_rl.trainer.rl.loss import X` and `from prime_rl.orchestrator.advantage import X` become
`from plugrad_compat.prime_rl import X`. Except for `LossInputs`, these are plugrad's own types.
"""

from plugrad import AdvantageInputs, AdvantageOutputs, LossOutputs
from plugrad_compat.prime_rl.inputs import LossInputs

__all__ = ["AdvantageInputs", "AdvantageOutputs", "LossInputs", "LossOutputs"]
