"""The Space's page, clicked through in a browser without a screen: see "Tests" in CONTRIBUTING.md for what it needs."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.places import PROJECT
from helpers.tiny_models import tiny_model, tiny_processor, tiny_vit_config
from helpers.videos import numbered_frames, write_video

pytestmark = pytest.mark.slow
START_S = ANSWER_S = 60


@pytest.fixture
def page(tmp_path):
    """The address of the running app."""
    pytest.importorskip("gradio")
    names = {0: "cut tomato", 1: "open fridge", 2: "take egg", 3: "wash knife", 4: "a rather long name " * 4}
    tiny_model(tiny_vit_config(id2label=names)).save_pretrained(tmp_path / "model")
    tiny_processor().save_pretrained(tmp_path / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, PROJECT / "space" / "app.py", "--model", tmp_path / "model", "--port", str(port)]
    app = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "HF_HOME": str(tmp_path / "hf_home")})
    try:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and app.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        assert app.poll() is None, "the app ended"
        yield f"http://127.0.0.1:{port}"
    finally:
        app.terminate()
        app.wait()


@pytest.fixture
def browser(tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    flags = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
    flags += ["disable-component-update", "disable-sync", f"user-data-dir={tmp_path / 'profile'}"]
    for flag in flags:
        options.add_argument(f"--{flag}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_window_size(1100, 1400)
    yield browser
    browser.quit()


def test_a_visitor_sees_what_is_anticipated(page, browser, tmp_path):
    video = write_video(tmp_path / "numbered.mp4", numbered_frames(60), codec="libx264")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(video.read_bytes()[:600])
    browser.get(page)

    def find(selector: str):
        return wait_for(lambda: browser.find_element("css selector", selector))

    def text_of(selector: str) -> str:
        return find(selector).text

    find("input[type=file]").send_keys(str(video))
    wait_for(lambda: browser.find_element("css selector", "video"))
    find("#anticipate").click()
    wait_for(lambda: "1 s" in text_of("#said") and text_of("#said"))
    assert text_of("#said") == "Saw 0 s to 1 s, and anticipates what starts at 2 s."
    bars = browser.find_elements("css selector", "#timeline .bars div[title]")
    assert len(bars) == 6
    first, best = browser.find_element("css selector", "#timeline .cursor").get_attribute("style"), text_of("#best")
    assert best.count("%") == 5
    save(browser, tmp_path / "wide.png")

    number = find("#moment input[type=number]")
    number.clear()
    number.send_keys("5\t")
    wait_for(lambda: "1 s to 5 s" in text_of("#said"))
    assert browser.find_element("css selector", "#timeline .cursor").get_attribute("style") != first
    browser.set_window_size(420, 1600)
    browser.execute_script("document.body.classList.add('dark')")
    save(browser, tmp_path / "narrow_dark.png")
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")

    browser.get(page)
    find("input[type=file]").send_keys(str(broken))
    time.sleep(2)
    find("#anticipate").click()
    wait_for(lambda: "Cannot read broken.mp4: it cannot be opened" in browser.find_element("css selector", "body").text)
    save(browser, tmp_path / "broken.png")


def wait_for(condition):
    """Returns what a condition returns, once that is true."""
    deadline, error = time.monotonic() + ANSWER_S, None
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except Exception as problem:  # of a page that is still changing
            error = problem
        time.sleep(0.2)
    raise AssertionError("nothing came") from error


def save(browser, path: Path):
    time.sleep(1)  # until what moves has come to rest
    browser.save_screenshot(str(path))
    print(f"screenshot: {path}")
