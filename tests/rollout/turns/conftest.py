import sys
from pathlib import Path

# `counting_plays` is shared by the tests here.
sys.path.insert(0, str(Path(__file__).parent))
