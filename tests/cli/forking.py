"""Components that fork. `test_forking_plugins.py` copies this file beside a run file."""

import os
import sys


def children(how):
    child = os.fork()
    if child == 0:
        if how == "raises":
            raise RuntimeError("a child")
        if how == "exits":
            sys.exit(7)
        return "child"
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if "FORKS_AT_IMPORT" in os.environ:
    children("returns")


class Environment:
    def __init__(self, how: str = ""):
        self.how = how
        self.calls = 0

    def train_examples(self):
        return [{"prompt": "1+1=", "reference": "2"}] * 4

    def eval_examples(self):
        return []

    def score(self, rollouts):
        self.calls += 1
        if self.how and self.calls > 1:
            code = children(self.how)
            if code != "child":
                with open("codes.txt", "a") as file:
                    file.write(f"{os.getpid()} {code}\n")
        return [1.0] * len(rollouts)
