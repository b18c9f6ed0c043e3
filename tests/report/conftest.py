"""Two short runs for every test here, with samples, a token table and texts that try to get out of their place."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from plugrad import RunFile
from plugrad.trainer.record.display import Silent
from plugrad.trainer.train import train

TINY = {"model_type": "qwen3", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
OWN = '''
"""A metric of the user's own."""


def own(inputs):
    """Says something <b>bold</b>.

    Reports:
        count: the number of <i>rollouts</i>, as ``of/x`` and `count` are.
        of/NAME: any other.
    """
    return {"count": float(len(inputs.rollouts)), "of/x": 1.0}
'''
ESCAPE = "</script><script>window.escaped = true</script><img src=x onerror='window.escaped = true'>"
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --force-prefers-reduced-motion"
)


def sample(step, number, **changed):
    """Return a line of samples.jsonl; its reward, step and length can be computed."""
    return {
        "step": step,
        "phase": "training" if step else "evaluation",
        "set": None,
        "policy_version": step,
        "prompt": f"{number}+{step}=",
        "completion": f"the sum is {number + step}",
        "reference": str(number + step),
        "reward": number / 10,
        "rewards": {"right": number / 10, "short": 0.0},
        "advantage": number / 10 - 0.5 if step else None,
        "length": 10 + number,
        "truncated": number == 9,
        "group": 0,
        **changed,
    }


@pytest.fixture(scope="session")
def escape():
    """A text that would run a script if it were not escaped."""
    return ESCAPE


@pytest.fixture(scope="session")
def token_table():
    """A table of two sequences, with every kind of mark."""
    tokens = ["What", " is", " 2", "+", "2", "?", " It", " is", "\n", ESCAPE, "<|end|>"]
    numbers = [None] * 6
    return {
        "sequences": [
            {
                "title": "first <b>rollout</b>",
                "step": 2,
                "reward": 1.0,
                "tokens": tokens,
                "prompt_length": 6,
                "counted": [False] * 6 + [True, True, True, True, False],
                "values": {
                    "advantage": [*numbers, 0.5, 0.5, 0.5, 0.5, None],
                    "ratio": [*numbers, 1.0, 1.3, 0.8, 1.0, None],
                    "entropy": [*numbers, 0.0, 1.0, 2.0, 0.1, None],
                    "mismatch": [*numbers, 0.0, 0.0, -0.0, 0.0, None],
                    "gradient: ppo_clip": [*numbers, -0.1, 0.0, 0.25, -0.02, None],
                },
                "marks": {"clipped: ppo_clip": [False] * 7 + [True] + [False] * 3, "masked": [False] * 10 + [True]},
            },
            {
                "title": "second",
                "step": 2,
                "reward": 0.0,
                "tokens": ["Q", "E", "A"],
                "prompt_length": 1,
                "counted": [False, False, True],
                "values": {"advantage": [None, None, -0.5], "gradient: ppo_clip": [None, None, 0.5]},
                "marks": {"given": [False, True, False]},
            },
        ]
    }


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """The folders of two runs, the first with samples. Copy one to change it."""
    root = tmp_path_factory.mktemp("report")
    (root / "own.py").write_text(OWN)

    def trained(name, **tables):
        run_file = RunFile(
            output_dir=str(root / name),
            search_paths=[str(root)],
            max_steps=3,
            model={"from_scratch": TINY},
            environment={"name": "arithmetic", "kwargs": {"digits": 1, "num_eval": 4}},
            rollout={"prompts_per_step": 2, "rollouts_per_example": 4, "max_new_tokens": 4},
            metric=[{"name": "own.py:own"}],
            extension=[{"name": "timing"}],
            evaluation={"every_steps": 1, "num_examples": 4},
            **tables,
        )
        return train(run_file, overwrite=True, display=Silent()).folder

    first = trained("first", loss={"name": "ppo_clip"})
    second = trained("second & <b>last", loss={"name": "importance_sampling"}, optimizer={"lr": 5e-4})
    lines = [sample(step, number) for step in range(4) for number in range(10)]
    lines.append(sample(3, 5, completion=f"{ESCAPE} \x1b[31mneedle", reward=0.55, length=99))
    (second / "samples.jsonl").unlink()
    (first / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [first, second]


@pytest.fixture(scope="session")
def played(runs, tmp_path_factory):
    """The folder of a run whose samples have turns: one with tool calls and two segments, and a play that failed."""
    folder = Path(
        shutil.copytree(runs[1], tmp_path_factory.mktemp("played") / "run", ignore=shutil.ignore_patterns("model"))
    )
    calls = [
        {"name": "multiply", "arguments": {"a": 2, "b": "4"}, "error": None},
        {"name": "", "arguments": {}, "error": "not JSON"},
    ]
    turns = [
        {"role": "assistant", "text": "a call in play 0", "reward": 0.25, "length": 5, "segment": 0, "tool_calls": calls},
        {"role": "tool", "text": ESCAPE, "reward": None, "length": 0},
        {"role": "assistant", "text": "8", "reward": -0.5, "length": 1, "segment": 1},
    ]
    whole = sample(1, 1, turns=turns, segments=["the first prompt", "the second prompt"])
    said = [{"role": "assistant", "text": "hm", "reward": 1.0, "length": 0}]
    failed = sample(1, 2, completion="", turns=said, failed="the board broke")
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (whole, failed)))
    return folder


@pytest.fixture
def copied(runs, tmp_path):
    """A copy of the first run, to change."""
    return Path(shutil.copytree(runs[0], tmp_path / "copy", ignore=shutil.ignore_patterns("model", "checkpoints")))


class Browser:
    """Chromium, and what a test asks of it."""

    def __init__(self):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in FLAGS.split():
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def open(self, url, width=1280, dark=False):
        """Open a page in a window of this width; forget what was logged before."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.logs()
        self.driver.get(url)
        return self

    def logs(self):
        """Return what the page has logged, and the addresses that it has asked for, since the last call."""
        said = self.driver.get_log("browser")
        events = [json.loads(line["message"])["message"] for line in self.driver.get_log("performance")]
        sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return SimpleNamespace(said=said, sent=[url for url in sent if not url.startswith("data:")])

    def js(self, expression, *arguments):
        return self.driver.execute_script(f"return {expression}", *arguments)

    def text(self, selector):
        return self.js("document.querySelector(arguments[0]).innerText", selector)

    def texts(self, selector):
        found = "[...document.querySelectorAll(arguments[0])].filter((each) => each.checkVisibility())"
        return self.js(f"{found}.map((each) => each.innerText)", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def fill(self, selector, text):
        """Type into a control, in place of what it holds."""
        self.js("arguments[0].value = ''", control := self.one(selector))
        control.send_keys(text)

    def set(self, selector, value):
        """Give a control that cannot be typed into a value, as its user would by moving it."""
        set_it = "(arguments[0].value = arguments[1], arguments[0].dispatchEvent(new Event('input')))"
        self.js(set_it, self.one(selector), value)


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window; skipped where there is none, but not in CI."""
    if not (CHROMIUM and DRIVER):
        message = "chromium and its driver are not installed: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    opened = Browser()
    yield opened
    opened.driver.quit()
