"""How soon a report of 5,000 steps and 200 metrics is written and opens: `python tests/benchmarks/report.py`.

Opening is measured in a headless Chromium, from the request to the moment at which all that the window shows is drawn.
"""

import json
import random
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import against_goal, in_turn, middle_half, new_table, seconds_of, show
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from plugrad.report.report_page import report_html

NUM_STEPS, NUM_METRICS, NUM_SAMPLES, ROUNDS = 5_000, 200, 2_000, 5
GOAL_S = 2.0
DRAWN = """
const done = arguments[0];
const drawn = () => requestAnimationFrame(() => setTimeout(() => done(performance.now())));
const look = () => document.querySelector("[data-drawn]") ? drawn() : setTimeout(look, 5);
look();
"""


def write_run(folder: Path) -> None:
    """Write the records of a long run."""
    draw = random.Random(0)
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for step in range(1, NUM_STEPS + 1):
            metrics = {f"metric_{number // 10}/of_{number}": draw.gauss(number, 1) for number in range(NUM_METRICS)}
            file.write(json.dumps({"step": step, **metrics}) + "\n")
    with (folder / "samples.jsonl").open("w", encoding="utf-8") as file:
        for number in range(NUM_SAMPLES):
            line = {"step": number, "prompt": "A question. " * 20, "completion": "An answer. " * 60, "reward": draw.random()}
            file.write(json.dumps(line) + "\n")


def opened() -> webdriver.Chrome:
    """Return a browser without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def main() -> None:
    """Show seconds and megabytes."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_run(folder)
        path = folder / "report.html"
        written_s = seconds_of(lambda: path.write_text(report_html([folder]), encoding="utf-8"))
        browser = opened()

        def open_it() -> None:
            browser.get(path.as_uri())
            browser.execute_async_script(DRAWN)

        seconds = in_turn({"open": open_it}, rounds=ROUNDS)["open"]
        browser.quit()
        megabytes = path.stat().st_size / 1e6
    table = new_table("report", "figure", "half of them", "goal")
    table.add_row("seconds to write", f"{written_s:.2f}", "", "")
    table.add_row("megabytes", f"{megabytes:.1f}", "", "")
    middle = sorted(seconds)[len(seconds) // 2]
    table.add_row("seconds to open", f"{middle:.2f}", middle_half(seconds, ".2f"), against_goal(seconds, GOAL_S, ".1f", "s"))
    show(f"{NUM_STEPS:,} steps, {NUM_METRICS} metrics, {NUM_SAMPLES:,} samples", table)


if __name__ == "__main__":
    main()
