"""A taskset with a harness of its own, which rewrites what was said and gives up at the first refusal."""

import httpx
import verifiers.v1 as vf


class RudeHarness(vf.Harness[vf.HarnessConfig]):
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data):
        async with httpx.AsyncClient(timeout=None) as client:
            for said in (data.prompt, f"{data.prompt} again"):
                answer = await client.post(
                    f"{endpoint}/chat/completions",
                    headers={"Authorization": f"Bearer {secret}"},
                    json={"model": ctx.model, "messages": [{"role": "user", "content": said}]},
                )
                answer.raise_for_status()
        return vf.ProgramResult(0, "", "")


class RudeTask(vf.Task[vf.TaskData]):
    @vf.reward
    async def done(self, trace) -> float:
        return float(trace.num_turns == 2)


class RudeTaskset(vf.Taskset[RudeTask, vf.TasksetConfig]):
    def load(self):
        yield RudeTask(vf.TaskData(prompt="well?"))


__all__ = ["RudeHarness", "RudeTaskset"]
