import sys
from pathlib import Path

# What the tests of this folder share, and the recorded updates of the invariance tests.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "invariance")]
