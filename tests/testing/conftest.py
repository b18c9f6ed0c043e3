import sys
from pathlib import Path

# The broken components are found by their tests and, by file, by the kit's own processes.
sys.path.insert(0, str(Path(__file__).parent))
