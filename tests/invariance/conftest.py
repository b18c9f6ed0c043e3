import sys
from pathlib import Path

# `scenario` is shared with processes that are no tests: there and here it is found under this name.
sys.path.insert(0, str(Path(__file__).parent))
