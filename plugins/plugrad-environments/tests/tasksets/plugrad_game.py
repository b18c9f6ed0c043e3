"""A game of several turns without an end of tasks; its environment is the user."""

import asyncio
import itertools

import verifiers.v1 as vf


class GameConfig(vf.EnvConfig):
    player: vf.AgentConfig = vf.AgentConfig()
    rounds: int = 3
    breaks: bool = False
    hangs: bool = False


class GameEnv(vf.Env[GameConfig]):
    async def run(self, task, agents):
        async with agents.player.interaction(task) as interaction:
            segment = await interaction.turn()
            for _ in range(self.config.rounds - 1):
                if segment.terminated:
                    break
                segment = await interaction.turn("again")
        if self.config.hangs:
            await asyncio.sleep(1000)
        if self.config.breaks and task.data.idx % 2:
            raise RuntimeError("the board is on fire")
        interaction.trace.record_reward("rounds", float(interaction.trace.num_turns))


class GameTaskset(vf.Taskset[vf.Task, vf.TasksetConfig]):
    INFINITE = True

    def load(self):
        for number in itertools.count():
            yield vf.Task(vf.TaskData(prompt=f"begin {number}"))


__all__ = ["GameEnv", "GameTaskset"]
