"""Other systems' losses, advantages and rewards in plugrad, and plugrad's in theirs.

`plugrad_compat.skyrl`, `.verl`, `.nemo_rl` and `.prime_rl` hold what code of that system imports, so that it runs here with
its import line changed and nothing else; what TRL calls imports nothing of TRL's. `plugrad_compat.export` is the way back.
"""
