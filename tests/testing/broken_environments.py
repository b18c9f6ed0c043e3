"""Environments that each break one promise. The decorator names the check made for it, and those that must see it too."""

import random
import threading

from breaking import noted

BROKEN, breaks = noted()


class Sums:
    """A correct one: sums of two digits."""

    def train_examples(self):
        return [{"prompt": f"{a}+{a + 1}=", "reference": str(2 * a + 1)} for a in range(1, 9)]

    def eval_examples(self):
        return [{"prompt": "9+9=", "reference": "18"}]

    def score(self, rollouts):
        return [self.worth(rollout["completion"], rollout["example"]["reference"]) for rollout in rollouts]

    def worth(self, completion, reference):
        return float(completion.strip() == reference)


@breaks("runs")
class HoldsNothingOut(Sums):
    eval_examples = None


@breaks("runs")
class OneScore(Sums):
    def score(self, rollouts):
        return super().score(rollouts)[:1]


@breaks("runs")
class NoPrompt(Sums):
    def train_examples(self):
        return [{"question": "1+1="}]


@breaks("runs")
class NotANumber(Sums):
    def worth(self, completion, reference):
        return float("nan")


@breaks("examples_stable")
class Shuffles(Sums):
    def __init__(self):
        self.order = random.sample(range(8), 8)

    def train_examples(self):
        return [super(Shuffles, self).train_examples()[i] for i in self.order]


@breaks("examples_stable")
class DrawsHowMany(Sums):
    def __init__(self):
        self.count = random.choice([5, 6, 7, 8])

    def eval_examples(self):
        return super().train_examples()[: self.count]


@breaks("example_ids")
class SameIds(Sums):
    def train_examples(self):
        return [{"example_id": "sum", **example} for example in super().train_examples()]


@breaks("score_alone")
class BestOfAll(Sums):
    def score(self, rollouts):
        scores = super().score(rollouts)
        return [score - sum(scores) / len(scores) for score in scores]


# Alone, each is the first.
@breaks("score_order", "score_alone")
class FirstComeFirstServed(Sums):
    def score(self, rollouts):
        return [score / (1 + place) for place, score in enumerate(super().score(rollouts))]


@breaks("rollouts_unchanged")
class Strips(Sums):
    def score(self, rollouts):
        for rollout in rollouts:
            rollout["completion"] = rollout["completion"] + "."
        return [float(r["completion"] == r["example"]["reference"] + ".") for r in rollouts]


@breaks("runs")
class ReportsText(Sums):
    def score(self, rollouts):
        for rollout in rollouts:
            rollout["metrics"]["quality"] = "0.5"
        return super().score(rollouts)


@breaks("runs")
class ReportsAnInfiniteNumber(Sums):
    def score(self, rollouts):
        for rollout in rollouts:
            rollout["metrics"]["length"] = float("inf")
        return super().score(rollouts)


@breaks("runs")
class ReplacesTheMetrics(Sums):
    def score(self, rollouts):
        for rollout in rollouts:
            rollout["metrics"] = [1.0]
        return super().score(rollouts)


@breaks("deterministic")
class NoisyJudge(Sums):
    def score(self, rollouts):
        noise = random.random()
        return [score * noise for score in super().score(rollouts)]


@breaks("deterministic")
class Guesses(Sums):
    """Scores by a draw for each rollout."""

    def score(self, rollouts):
        return [random.random() for _ in rollouts]


@breaks("references")
class LikesItShort(Sums):
    def worth(self, completion, reference):
        return -float(len(completion))


@breaks("odd_completions")
class ParsesNumbers(Sums):
    def worth(self, completion, reference):
        return float(int(completion) == int(reference))


@breaks("odd_completions")
class DividesByTheLength(Sums):
    def worth(self, completion, reference):
        return (completion == reference) / len(completion)


@breaks("resumes")
class Counts(Sums):
    """Reports how many completions it has scored, and does not save that."""

    def __init__(self):
        self.scored = 0

    def score(self, rollouts):
        for rollout in rollouts:
            self.scored += 1
            rollout["metrics"]["scored"] = self.scored
        return super().score(rollouts)


@breaks("resumes")
class ForgetsItsState(Counts):
    """Declares state, and saves none of it."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@breaks("pickles")
class HoldsALock(Sums):
    def __init__(self):
        self.lock = threading.Lock()


@breaks("options_from_toml")
class TakesAFunction(Sums):
    def __init__(self, judge: object = min):
        self.judge = judge
