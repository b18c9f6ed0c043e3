"""The report and the token view in a real browser: clicked, searched, and asking nobody for anything."""

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from plugrad.report.report_page import report_html
from plugrad.report.token_view import token_view_html


@pytest.fixture(scope="module")
def pages(runs, played, token_table, tmp_path_factory):
    """The addresses of a report on two runs, of one on a run with turns, and of a token view."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "report.html").write_text(report_html(runs))
    (folder / "tokens.html").write_text(token_view_html(token_table, title="Step <b>2</b>"))
    (folder / "played.html").write_text(report_html([played]))
    return {path.stem: path.as_uri() for path in folder.iterdir()}


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["report", "played", "tokens"])
def test_a_page_asks_nobody_for_anything_and_fits(browser, pages, name, width):
    browser.open(pages[name], width=width)
    browser.js("scrollTo(0, document.body.scrollHeight)")
    logs = browser.logs()
    assert logs.said == []
    assert logs.sent == [pages[name]]
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert browser.js("window.escaped") is None
    assert browser.js("document.querySelectorAll('img, b > b, script:not(:empty) ~ img').length") == 0


def test_what_a_run_says_is_text_and_never_markup(browser, pages, escape):
    browser.open(pages["report"])
    assert browser.text("h1") == "firstsecond & <b>last"
    assert "The number of <i>rollouts</i>, as of/x and count are." in browser.texts(".chart p")
    assert browser.texts(".chart[data-number='own/count'] p code") == ["of/x", "count"]
    browser.fill("#find-sample", "needle")
    assert browser.texts(".sample .completion") == [f"{escape} \\x1b[31mneedle"]
    assert browser.texts(".sample mark") == ["needle"]
    assert browser.js("window.escaped") is None


def test_samples_are_searched_and_filtered(browser, pages):
    browser.open(pages["report"])
    assert browser.text("#num-shown") == "41 of 41 samples"
    assert len(browser.texts(".sample")) == 20
    browser.one("#more-samples").click()
    assert len(browser.texts(".sample")) == 40
    browser.fill("#least-reward", "0.5")
    assert browser.text("#num-shown") == "21 of 41 samples"
    browser.fill("#most-step", "1")
    browser.fill("#least-length", "16")
    assert browser.text("#num-shown") == "8 of 41 samples"
    browser.set("#phase", "evaluation")
    browser.set("#order", "best")
    assert browser.texts(".sample .completion") == ["the sum is 9", "the sum is 8", "the sum is 7", "the sum is 6"]
    browser.one("#only-truncated").click()
    assert browser.texts(".sample .facts") == [
        "step 0\nevaluation\nreward 0.9\nright 0.9\nshort 0\nlength 19\ntruncated\nfirst"
    ]
    browser.one("#clear-filters").click()
    assert browser.text("#num-shown") == "41 of 41 samples"


def test_a_rollout_of_several_turns_is_a_conversation(browser, pages, escape):
    browser.open(pages["played"])
    browser.fill("#find-sample", "in play 0")
    assert browser.texts(".turn .facts") == [
        "assistant\n5 tokens, trained on\nsegment 1 of 2\nreward +0.25",
        "tool",
        "assistant\n1 token, trained on\nsegment 2 of 2\nreward -0.5",
    ]
    assert browser.texts(".turn .words") == ["a call in play 0", escape, "8"]
    assert browser.texts(".turn .call") == ['calls multiply(a=2, b="4")', "a call that cannot be read: not JSON"]
    is_reply = "[...document.querySelectorAll('.turn')].map((each) => each.classList.contains('reply'))"
    assert browser.js(is_reply) == [True, False, True]
    browser.one(".row-prompt summary").click()
    assert browser.texts(".row-prompt pre") == ["the second prompt"]
    assert "reward 0.1\n" in browser.text(".sample .facts")
    assert "replies 2\nof replies -0.25" in browser.text(".sample .facts")
    assert browser.texts(".sample .completion") == []
    browser.one("#clear-filters").click()
    browser.one("#only-failed").click()
    assert browser.text("#num-shown") == "1 of 2 samples"
    assert browser.texts(".turn .facts") == ["assistant\nreward +1"]
    assert browser.texts("dd.failed") == ["the board broke"]


def test_what_the_environment_wrote_is_told_from_what_is_not_counted(browser, pages):
    browser.open(pages["tokens"])
    browser.set("#sequence-0", "1")
    browser.one("#token-0-1").click()
    assert browser.one("#token-0-1").get_attribute("class").split() == ["token", "given", "current"]
    assert browser.texts(".numbers .chip") == ["given"]
    assert "given by the environment" in browser.text(".keys")


def test_curves_are_found_hovered_and_smoothed(browser, pages):
    browser.open(pages["report"])
    browser.fill("#find-number", "clip_fraction")
    assert browser.texts(".chart h4") == ["ppo_clip/clip_fraction"]
    browser.fill("#find-number", "eval/reward")
    chart = browser.one(".chart[data-number='eval/reward']")
    assert browser.js("arguments[0].querySelector('[data-drawn]') !== null", chart)
    assert "step" not in browser.text(".chart[data-number='eval/reward'] .readout")
    ActionChains(browser.driver).move_to_element(chart.find_element("css selector", ".u-over")).perform()
    assert "step" in browser.text(".chart[data-number='eval/reward'] .readout")
    browser.set("#smoothing", "0.9")
    assert browser.text("#smoothing-shown") == "0.9"
    assert "≈" in browser.text(".chart[data-number='eval/reward'] .readout")
    assert browser.js("arguments[0].querySelectorAll('.uplot').length", chart) == 1


def test_the_labels_of_an_axis_differ(browser, pages):
    browser.open(pages["report"])
    assert browser.js("distinctTexts([0, 0.5, 1])") == ["0", "0.5", "1"]
    assert browser.js("distinctTexts([4.1785, 4.179, 4.1795])") == ["4.1785", "4.179", "4.1795"]


def test_only_curves_that_are_seen_are_drawn(browser, pages):
    browser.open(pages["report"])
    drawn = "document.querySelectorAll('[data-drawn]').length"
    # The findings come first, and may fill the window.
    browser.js("document.querySelector('.chart').scrollIntoView()")
    WebDriverWait(browser.driver, 60).until(lambda _: browser.js(drawn))
    assert browser.js(drawn) < browser.js("document.querySelectorAll('.chart').length")


@pytest.mark.parametrize("width", [1280, 400])
def test_the_theme_follows_the_system_until_it_is_chosen(browser, pages, width):
    background = "getComputedStyle(document.body).backgroundColor"
    dark, light = "rgb(15, 18, 23)", "rgb(246, 247, 249)"
    browser.open(pages["report"], width=width, dark=True)
    assert browser.js(background) == dark
    browser.one(".theme [data-theme=light]").click()
    assert browser.js(background) == light
    browser.one(".theme [data-theme=dark]").click()
    assert browser.open(pages["report"], width=width).js(background) == dark
    browser.one(".theme [data-theme=auto]").click()
    assert browser.js(background) == light


def test_the_other_sections_say_what_is_recorded(browser, pages):
    browser.open(pages["report"])
    assert "ppo_clip\tplugrad 0.1.0" in browser.text("#plugins")
    differences = browser.text("#differences")
    assert "optimizer.lr" in differences
    assert "0.0005" in differences
    assert "compute_loss/ppo_clip" in browser.text("#time")
    assert "finished" in browser.text("#history")
    browser.one("#config-0 summary").click()
    assert "ppo_clip" in browser.text("#config-0 pre")


def test_tokens_are_coloured_told_and_walked_through(browser, pages):
    browser.open(pages["tokens"])
    assert browser.text("h1") == "Step <b>2</b>"
    tone = "arguments[0].style.getPropertyValue('--tone') + arguments[0].style.getPropertyValue('--strength')"
    raised, lowered = browser.one("#token-0-6"), browser.one("#token-0-8")
    assert browser.js(tone, raised).startswith("var(--less)")
    assert browser.js(tone, lowered).startswith("var(--more)")
    assert browser.js("document.querySelectorAll('.token.clipped[id]').length") == 1
    assert browser.texts(".whose") == ["first <b>rollout</b> · reward 1", "second · reward 0"]
    assert "uncounted" in browser.one("#token-0-10").get_attribute("class")
    ActionChains(browser.driver).move_to_element(browser.one("#token-0-7")).perform()
    assert browser.text(".numbers").split("\n") == [
        " is", "token 8 of 11", "clipped: ppo_clip", "advantage 0.5", "ratio 1.3", "entropy 1", "mismatch 0",
        "gradient: ppo_clip 0",
    ]  # fmt: skip
    text = browser.one(".text")
    browser.js("arguments[0].focus()", text)
    text.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert browser.text(".numbers").startswith("</script>")
    text.send_keys(Keys.HOME)
    assert "token 1 of 11" in browser.text(".numbers")
    text.send_keys(Keys.END)
    assert "token 3 of 3" in browser.text(".numbers")
    browser.set("#value-0", "mismatch")
    assert browser.text(".scale") == "every value is 0"
    browser.set("#value-0", "ratio")
    assert "more likely" in browser.text(".scale")
    browser.set("#sequence-0", "1")
    assert browser.texts(".token[id]") == ["Q", "E", "A"]
    assert browser.texts(".whose") == []
