"""prime-rl: what its losses and advantages import.

`from prime_rl.trainer.rl.loss import X` and `from prime_rl.orchestrator.advantage import X` become
`from plugrad_compat.prime_rl import X`: these are plugrad's own types, whose names are prime-rl's.
"""

from plugrad import AdvantageInputs, AdvantageOutputs, LossInputs, LossOutputs

__all__ = ["AdvantageInputs", "AdvantageOutputs", "LossInputs", "LossOutputs"]
