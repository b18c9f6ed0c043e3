"""A taskset as its author writes one for `verifiers`: one reply, a reward with a weight, a metric, two splits."""

import verifiers.v1 as vf


class SumData(vf.TaskData):
    answer: str


class SumTask(vf.Task[SumData]):
    @vf.reward(weight=2.0)
    async def right(self, trace) -> float:
        return float(self.data.answer in trace.last_reply)

    @vf.reward(weight=0.5)
    async def said_something(self, trace) -> float:
        return float(bool(trace.assistant_messages))

    @vf.metric
    async def turns_taken(self, trace) -> float:
        return float(trace.num_turns)


class SumConfig(vf.TasksetConfig):
    split: str = "train"
    system: bool = True


class Sums(vf.Taskset[SumTask, SumConfig]):
    def load(self):
        for a in range(3 if self.config.split == "test" else 6):
            system = "Add." if self.config.system else None
            yield SumTask(SumData(prompt=f"{a}+2=", system_prompt=system, answer=str(a + 2)), self.config.task)


__all__ = ["Sums"]
