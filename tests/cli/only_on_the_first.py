"""An advantage of which one rank has not what it imports."""

import os

from plugrad import AdvantageOutputs

if os.environ.get("RANK") == "1":
    import a_package_that_only_the_first_host_has  # noqa: F401


def group_mean(inputs):
    return AdvantageOutputs(inputs.rewards)
