"""What `python -m plugrad` needs before all other imports: Python has put the working directory first on its path."""

import sys


def leave_out_first_folder() -> None:
    """Take it off again, in a process that runs plugrad or one of its modules with -m. Imports nothing but `sys`."""
    given = sys.orig_argv
    name = given[given.index("-m") + 1] if "-m" in given[:-1] else ""
    if name.partition(".")[0] == "plugrad" and not sys.flags.safe_path:
        del sys.path[0]
