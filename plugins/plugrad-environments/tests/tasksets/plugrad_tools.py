"""A taskset with a tool, which its server runs in a process."""

import verifiers.v1 as vf


class Calculator(vf.Toolset[vf.SharedToolsetConfig, vf.State]):
    TOOL_PREFIX = "calc"

    @vf.tool
    async def multiply(self, a: int, b: int) -> int:
        """Multiply two whole numbers."""
        return a * b


class ToolTask(vf.Task[vf.TaskData]):
    @vf.reward
    async def product(self, trace) -> float:
        return float(any("391" in str(message.content) for message in trace.tool_messages))


class ToolTaskset(vf.Taskset[ToolTask, vf.TasksetConfig]):
    def load(self):
        yield ToolTask(vf.TaskData(prompt="17*23?"))

    @classmethod
    def toolsets(cls, config):
        return [Calculator(vf.SharedToolsetConfig())]


if __name__ == "__main__":
    Calculator.run()

__all__ = ["ToolTaskset"]
