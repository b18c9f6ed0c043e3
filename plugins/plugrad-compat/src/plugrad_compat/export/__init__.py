"""Export any installed plugrad loss or advantage, by name, in the form that another system takes.

    prime_rl_loss, prime_rl_advantage      callables for `import_path`, with kwargs = { name = "gspo", ... }
    skyrl_policy_loss, skyrl_advantage     functions to register with SkyRL
    verl_policy_loss, verl_advantage       functions to register with verl
    nemo_rl_loss                           a LossFunction
    trl.GRPOTrainer                        TRL's trainer, with loss="gspo" and advantage="rloo"

A function here holds only a name and options. It can be pickled, and looks up its plugin in the process that calls it.
"""

from plugrad_compat.export.advantages import skyrl_advantage, verl_advantage
from plugrad_compat.export.nemo_rl import nemo_rl_loss
from plugrad_compat.export.prime_rl import prime_rl_advantage, prime_rl_loss
from plugrad_compat.export.skyrl import skyrl_policy_loss
from plugrad_compat.export.verl import verl_policy_loss

__all__ = [
    "nemo_rl_loss",
    "prime_rl_advantage",
    "prime_rl_loss",
    "skyrl_advantage",
    "skyrl_policy_loss",
    "verl_advantage",
    "verl_policy_loss",
]
