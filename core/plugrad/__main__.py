"""`python -m plugrad`: the same as `plugrad`."""

import sys
from pathlib import Path

from plugrad.paths import SearchFolder

if __name__ == "__main__":
    # Python puts the working directory first on the path. A run can write there, so a file there must not shadow a package.
    # Move the directory to the end: the user's own modules are still found, and distributions in it are refused.
    if sys.path and Path(sys.path[0] or ".").resolve() == Path.cwd():
        del sys.path[0]
        sys.path.append(SearchFolder(Path.cwd()))

    from plugrad.cli.main import main

    main()
