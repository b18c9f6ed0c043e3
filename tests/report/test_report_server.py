"""The page of a run that goes on: served to this machine alone, and rendered anew when the run has grown."""

import json
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from plugrad.errors import RunFileError
from plugrad.report.report_server import report_server


@contextmanager
def serving(*folders):
    with report_server(folders) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return answer.read().decode()


def grow(folder, step):
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "reward": 0.25}) + "\n")


def test_the_page_changes_when_the_run_grows(copied):
    with serving(copied) as url:
        before, page = get(f"{url}version"), get(url)
        assert f'"version":"{before}"' in page
        assert get(f"{url}version") == before
        grow(copied, 4)
        assert get(f"{url}version") != before
        assert '"x":[1,2,3,4]' in get(url)


def test_a_folder_without_records_is_waited_for(tmp_path):
    with serving(tmp_path) as url:
        assert "there is no run to report on" in get(url)


def test_another_name_for_this_machine_gets_nothing(copied):
    with serving(copied) as url:
        assert url.startswith("http://127.0.0.1:")
        for address, host in ((url, "evil.example:80"), (f"{url}other", url.split("/")[2])):
            with pytest.raises(urllib.error.HTTPError):
                get(address, Host=host)


def test_a_port_that_is_taken_is_named(copied):
    with report_server([copied]) as server, pytest.raises(RunFileError, match=f"port {server.server_port} of"):
        report_server([copied], server.server_port)


def test_the_page_reloads_itself_and_stays_where_it_was(copied, browser):
    with serving(copied) as url:
        browser.open(url)
        browser.fill("#find-sample", "sum is 7")
        browser.set("#smoothing", "0.5")
        browser.js("document.querySelector('#group-ppo_clip').open = false")
        browser.js("(document.activeElement.blur(), scrollTo(0, 700), window.isFirst = true)")
        grow(copied, 4)
        reloaded = "new Promise((done) => setTimeout(() => done(!window.isFirst), 100))"
        assert any(browser.js(reloaded) for _ in range(100))
        assert browser.js("Math.round(scrollY)") == 700
        assert browser.js("document.querySelector('#find-sample').value") == "sum is 7"
        assert browser.text("#smoothing-shown") == "0.5"
        assert browser.js("document.querySelector('#group-ppo_clip').open") is False
        assert "4" in browser.text(".tile .figure")
        logs = browser.logs()
        assert logs.said == []
        assert all(address.startswith(url) for address in logs.sent)
