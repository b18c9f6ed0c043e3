"""Run other systems' losses, advantages and rewards in plugrad, and plugrad's in theirs.

`plugrad_compat.skyrl`, `.verl`, `.nemo_rl` and `.prime_rl` provide what code of that system imports. Such code runs
here after changing only its import line. TRL's reward functions import nothing from TRL. `plugrad_compat.export` goes
the other way.
"""
