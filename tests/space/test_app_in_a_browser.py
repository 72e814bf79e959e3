"""The Space's page, clicked through in a browser without a screen: see "Tests" in CONTRIBUTING.md for what it needs."""

import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.places import PROJECT
from helpers.tiny_models import tiny_model, tiny_processor, tiny_vit_config
from helpers.videos import numbered_frames, write_video
from transformers import BertConfig, BertModel

pytestmark = pytest.mark.slow
START_S = ANSWER_S = 60
MARKUP = "<img src=x onerror=\"document.title='markup ran'\">"


@dataclass
class App:
    address: str
    folder: Path  # where gradio stores uploads and other files

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The running app; checks that no uploads are left when it has ended."""
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("app")
    names = {
        0: "cut tomato",
        1: "open fridge",
        2: "take egg",
        3: "${1+1} {{value}}",
        4: MARKUP + " a rather long name" * 4,
    }
    tiny_model(tiny_vit_config(id2label=names)).save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, PROJECT / "space" / "app.py", "--model", folder / "model", "--port", str(port)]
    places = {"HF_HOME": str(folder / "hf_home"), "GRADIO_TEMP_DIR": str(folder / "gradio")}
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, **places})
    try:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        assert process.poll() is None, "the app ended"
        app = App(f"http://127.0.0.1:{port}", folder / "gradio")
        yield app
    finally:
        process.terminate()
        process.wait()
    assert not list(app.folder.glob("uploads-*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--every", "0"], "argument --every: 0 s: give a finite time above 0"),
        (["--every", "nan"], "argument --every: nan s: give a finite time above 0"),
        (["--every", "often"], "argument --every: invalid seconds value: 'often'"),
        ([], "bert does not anticipate actions: give a checkpoint of type avt."),
    ],
)
def test_options_and_models_that_cannot_be_shown_are_refused_in_a_sentence(tmp_path, options, message):
    pytest.importorskip("gradio")
    tiny = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    BertModel(tiny).save_pretrained(tmp_path / "bert")
    command = [sys.executable, PROJECT / "space" / "app.py", "--model", tmp_path / "bert", *options]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert ended.returncode != 0
    assert ended.stderr.splitlines()[-1].endswith(message)


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
    flags += ["use-fake-device-for-media-stream", "use-fake-ui-for-media-stream"]  # a fake camera, with permission
    for flag in flags:
        options.add_argument(f"--{flag}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_window_size(1100, 1400)
    yield browser
    browser.quit()


class Page:
    """A visitor's page, in its own tab."""

    def __init__(self, browser, app: App):
        self.browser = browser
        if browser.current_url.startswith("http"):
            browser.switch_to.new_window("tab")
        self.tab = browser.current_window_handle
        browser.get(app.address)

    def find(self, selector: str):
        self.browser.switch_to.window(self.tab)
        return wait_for(lambda: self.browser.find_element("css selector", selector))

    def text_of(self, selector: str) -> str:
        return self.find(selector).text

    def press(self, words: str):
        """Presses the button that shows these words."""
        self.find("body")
        wait_for(lambda: [each for each in self._buttons() if words in each.text and each.is_displayed()])[0].click()

    def _buttons(self):
        return self.browser.find_elements("css selector", "button")

    def upload(self, video: Path):
        self.find("body")
        for remove in self.browser.find_elements("css selector", "button[aria-label='Clear']"):
            remove.click()
        self.find("input[type=file]").send_keys(str(video))
        self.find("video")

    def anticipate(self, video: Path):
        self.upload(video)
        self.find("#anticipate").click()
        wait_for(lambda: "0 s to 1 s" in self.text_of("#said"))

    def move_to(self, at_s: int):
        number = self.find("#moment input[type=number]")
        number.clear()
        number.send_keys(f"{at_s}\t")
        wait_for(lambda: f"to {at_s} s" in self.text_of("#said"))

    def close(self):
        self.browser.switch_to.window(self.tab)
        self.browser.close()


def test_a_visitor_gets_answers(app, browser, tmp_path):
    page = Page(browser, app)
    page.upload(write_video(tmp_path / "numbered.mp4", numbered_frames(60), codec="libx264"))
    page.find("#anticipate").click()
    wait_for(lambda: "1 s" in page.text_of("#said") and page.text_of("#said"))
    assert page.text_of("#said") == "Saw 0 s to 1 s, and anticipates what starts at 2 s."
    bars = browser.find_elements("css selector", "#timeline .bars div[title]")
    assert len(bars) == 6
    first = browser.find_element("css selector", "#timeline .cursor").get_attribute("style")
    best = page.text_of("#best")
    assert best.count("%") == 5
    save(browser, tmp_path / "wide.png")

    page.move_to(5)
    assert page.text_of("#said").startswith("Saw 1 s to 5 s")
    assert browser.find_element("css selector", "#timeline .cursor").get_attribute("style") != first
    width = "return document.querySelector('#frame img').naturalWidth"
    assert wait_for(lambda: browser.execute_script(width)) == 480  # 64 x 48 pixels, scaled to a height of 360
    browser.set_window_size(420, 1600)
    browser.execute_script("document.body.classList.add('dark')")
    save(browser, tmp_path / "narrow_dark.png")
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.execute_script("return document.querySelector('#frame img').clientWidth") > 300


def test_a_camera_is_watched_live_and_nothing_is_stored(app, browser, tmp_path):
    page = Page(browser, app)
    page.press("Your camera")
    page.press("Click to Access Webcam")
    page.press("Record")
    wait_for(lambda: "watched for 2 s" in page.text_of("#live-said"))
    assert page.text_of("#live-said") == "Has watched for 2 s, and anticipates what starts in 1 s."
    assert page.text_of("#live-best").count("%") == 5
    assert MARKUP in page.text_of("#live-best")
    assert browser.title != "markup ran"
    save(browser, tmp_path / "camera.png")
    wait_for(lambda: "watched for 5 s" in page.text_of("#live-said"))
    page.press("Stop")
    browser.set_window_size(420, 1600)
    browser.execute_script("document.body.classList.add('dark')")
    save(browser, tmp_path / "camera_narrow_dark.png")
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert app.files() == []


def test_names_of_actions_are_text(app, browser, tmp_path):
    page = Page(browser, app)
    page.anticipate(write_video(tmp_path / "numbered.mp4", numbered_frames(60), codec="libx264"))
    for place in ("#timeline", "#best"):
        assert MARKUP in page.text_of(place)
        assert "${1+1} {{value}}" in page.text_of(place)
    assert browser.title != "markup ran"


def test_uploads_are_deleted_after_use_and_no_frame_is_stored(app, browser, tmp_path):
    first = write_video(tmp_path / "first.mp4", numbered_frames(60), codec="libx264")
    second = write_video(tmp_path / "second.mp4", numbered_frames(70), codec="libx264")
    page, _ = Page(browser, app), Page(browser, app)  # the second keeps the browser open
    page.anticipate(first)
    page.move_to(5)
    assert app.files() == ["first.mp4"]
    page.upload(second)
    wait_for(lambda: app.files() == ["second.mp4"])
    page.upload(first)  # without using the second one
    wait_for(lambda: app.files() == ["first.mp4"])
    page.close()
    wait_for(lambda: app.files() == [])


def test_visitors_of_the_same_video_keep_it(app, browser, tmp_path):
    shared = write_video(tmp_path / "shared.mp4", numbered_frames(60), codec="libx264")
    other = write_video(tmp_path / "other.mp4", numbered_frames(70), codec="libx264")
    ann, bob, _ = (Page(browser, app) for _ in range(3))
    ann.anticipate(shared)
    bob.anticipate(shared)
    assert app.files() == ["shared.mp4"]
    ann.anticipate(other)
    bob.move_to(5)
    ann.close()
    wait_for(lambda: app.files() == ["shared.mp4"])
    bob.move_to(3)
    bob.close()
    wait_for(lambda: app.files() == [])


@pytest.mark.parametrize("name", ["broken.mp4", "long.mp4", "short.mp4", "&lt;b&gt; [a](b) \x1b[31m<img src=x>.mp4"])
def test_what_cannot_be_used_is_refused_and_deleted(app, browser, tmp_path, name):
    path, frames, fps = tmp_path / name, numbered_frames(610), {"long.mp4": 1, "short.mp4": 1000}.get(name, 10)
    write_video(tmp_path / "written.mp4", frames, fps=fps, codec="libx264").rename(path)
    reason = {"long.mp4": "lasts 610 s: upload one of 600 s at most", "short.mp4": "upload one of 1 s at least"}.get(
        name
    )
    if reason is None:
        path.write_bytes(path.read_bytes()[:600])
        shown = name.replace("\x1b", "").replace("<", "").replace(">", "")  # gradio removes these
        reason = f"Cannot read {shown}: it cannot be opened"
    page = Page(browser, app)
    page.upload(path)
    wait_for(lambda: len(app.files()) == 1)
    page.find("#anticipate").click()
    wait_for(lambda: reason in page.text_of("body"))
    wait_for(lambda: app.files() == [])
    save(browser, tmp_path / "refused.png")
    page.find("#anticipate").click()
    wait_for(lambda: "The video was deleted: upload it again." in page.text_of("body"))


def wait_for(condition):
    """Waits until a condition is true, and returns its value."""
    deadline, error = time.monotonic() + ANSWER_S, None
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except Exception as problem:  # the page is still changing
            error = problem
        time.sleep(0.2)
    raise AssertionError("nothing came") from error


def save(browser, path: Path):
    time.sleep(1)  # until animations have finished
    browser.save_screenshot(str(path))
    print(f"screenshot: {path}")
