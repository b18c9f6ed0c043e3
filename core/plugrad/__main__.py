"""`python -m plugrad`: the same as `plugrad`."""

import sys
from pathlib import Path

from plugrad.paths import SearchFolder

if __name__ == "__main__":
    # Python put the working directory first on the path. A run can write there, and must not be able to take the place of a
    # package: modules of the user's own are found there after all packages, and distributions are refused.
    if sys.path and Path(sys.path[0] or ".").resolve() == Path.cwd():
        del sys.path[0]
        sys.path.append(SearchFolder(Path.cwd()))

    from plugrad.cli.main import main

    main()
