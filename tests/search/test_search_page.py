"""The page in headless Chromium: type, see, hear; nothing of a file's name runs, and nothing is asked of others."""

import re
import shutil
import threading

import numpy as np
import pytest

from slap.core.calibration import Calibration
from slap.search.query import Index
from slap.search.web.app import search_app
from slap.search.web.server import Server
from tests.support.late_video import late_video

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

HOSTILE = '<img src=x onerror=alert(1)><svg onload=alert(2)> & "it\'s".flac'
WAIT = 30_000  # ms


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # Debian's Chromium has no sandbox for root, as whom tests run in containers.
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def url(sounds):
    """A served index of five sounds and a video, whose sound begins after 2 s."""
    sounds.tone("birds/whistle.wav", 500, 4000, 500, seconds=3)
    sounds.tone("hum.flac", 700, seconds=2)
    sounds.tone("long.ogg", 300, 6000, 300, seconds=25, rate=22_050)
    sounds.tone("odd.aiff", 2600, seconds=2)
    sounds.tone(HOSTILE, 1900, seconds=2)
    late_video(sounds.folder / "late.mp4", 0.3 * np.sin(2 * np.pi * 5200 * np.arange(48_000) / 16_000), 16_000, 2.0, 6)
    sounds.update()
    with Server(search_app(Index.open(sounds.index))) as server:
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        yield server.url
        server.stop()
        thread.join()


@pytest.fixture
def page(browser, url):
    """The page, open; fails at the end if anything went wrong in it or left this machine."""
    context = browser.new_context(viewport={"width": 1000, "height": 900})
    context.set_default_timeout(WAIT)
    expect.set_options(timeout=WAIT)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: None if request.url.startswith((url, "data:")) else wrong.append(request.url))
    page.wrong = wrong
    page.goto(url)
    yield page
    context.close()
    assert wrong == []


def search(page, text):
    page.get_by_role("searchbox").fill(text)
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("status")).to_have_text(f"Nearest to “{text}”")
    return page.locator(".card")


def place(page, part, strip):
    """Left and right edge of a part, as shares of the strip."""
    inner, outer = page.locator(part).first.bounding_box(), page.locator(strip).first.bounding_box()
    left = (inner["x"] - outer["x"]) / outer["width"]
    return left, left + inner["width"] / outer["width"]


def test_hits_with_pictures_and_the_place_that_matches(page):
    cards = search(page, "4000 Hz")
    expect(cards).to_have_count(6)
    first = cards.first
    expect(first.locator("h2")).to_have_text("whistle.wav")
    expect(first.locator(".where")).to_have_text("birds · 9.0 s")
    expect(first.locator(".span")).to_have_text(re.compile(r"matches from [23]\.\d s to [56]\.\d s"))
    assert place(page, ".mark", ".strip") == (pytest.approx(1 / 3, abs=0.03), pytest.approx(2 / 3, abs=0.03))
    expect(first.locator(".curve polyline")).to_have_attribute("points", re.compile(r"^0,.* 1,"))
    picture = first.locator("img.ready")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") >= 800
    scores = [float(text) for text in cards.locator(".score strong").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)


def test_long_files_are_shown_around_the_match(page):
    first = search(page, "6000").first
    expect(first.locator("h2")).to_have_text("long.ogg")
    ticks = [
        minutes * 60 + seconds
        for minutes, seconds in (map(int, tick.split(":")) for tick in first.locator(".axis span").all_inner_texts())
    ]
    assert ticks[-1] - ticks[0] == 60
    assert ticks[0] <= 26 < 48 <= ticks[-1]


@pytest.mark.parametrize("query", ["4000", "700", "6000", "2600", "5200"])  # wav, flac, ogg, aiff, video
def test_playing_begins_where_it_matches_and_can_be_sought_in(page, query):
    parts = []
    page.on("response", lambda response: parts.append(response.status) if "/audio" in response.url else None)
    first = search(page, query).first
    expect(first.locator(".curve polyline")).to_have_attribute("points", re.compile("^0,"))  # the span is refined
    start, end = (float(first.locator(".strip").get_attribute(f"aria-value{edge}")) for edge in ("min", "max"))
    first.get_by_role("button", name=re.compile("Play")).click()
    button = first.get_by_role("button", name=re.compile("Pause"))
    expect(button).to_be_visible()
    now = lambda: page.evaluate("player.currentTime")  # noqa: E731
    page.wait_for_timeout(300)
    began = now()
    matched = {"4000": (2.8, 3.6), "700": (0, 1), "6000": (24, 46), "2600": (0, 1), "5200": (2, 3)}[query]
    assert matched[0] <= began <= matched[1]
    box = first.locator(".strip").bounding_box()
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 20)
    assert now() == pytest.approx(start + 0.8 * (end - start), abs=1.2)
    button.click()
    expect(first.get_by_role("button", name=re.compile("Play"))).to_be_visible()
    assert page.evaluate("player.error && player.error.message") is None
    assert set(parts) == {206}


def test_one_sound_at_a_time_and_the_keyboard(page):
    cards = search(page, "4000")
    cards.nth(0).get_by_role("button", name=re.compile("Play")).click()
    cards.nth(1).get_by_role("button", name=re.compile("Play")).click()
    expect(page.locator(".playing")).to_have_count(1)
    expect(cards.nth(1)).to_have_class(re.compile("playing"))
    strip = cards.nth(1).get_by_role("slider")
    strip.focus()
    page.keyboard.press(" ")
    expect(page.locator(".playing")).to_have_count(0)
    page.keyboard.press("Home")
    expect(strip).to_have_attribute("aria-valuenow", "0.00")
    page.keyboard.press("ArrowRight")
    assert float(strip.get_attribute("aria-valuenow")) > 0
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_names_are_shown_and_not_run(page):
    first = search(page, "1900").first
    expect(first.locator("h2")).to_have_text(HOSTILE)
    expect(first.locator("img.ready")).to_be_visible()
    first.get_by_role("button", name="More like this").click()
    expect(page.get_by_role("status")).to_have_text(f"Sounds like {HOSTILE}")
    expect(page.locator(".card")).to_have_count(5)
    expect(page.locator("#like b")).to_have_text(HOSTILE)
    assert page.locator("#hits script, #status img, #hits h2 *, #like b *").count() == 0
    page.get_by_role("button", name="remove").click()
    search(page, "<img src=x onerror=alert(3)> 700")


def test_a_sound_with_words_and_without_others(page):
    search(page, "2600")
    page.get_by_role("button", name="More like this").first.click()
    expect(page.get_by_role("status")).to_contain_text("Sounds like odd.aiff")
    page.get_by_label("but without").fill("2600")
    page.get_by_role("searchbox").fill("700")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Sounds like odd.aiff with “700” without “2600”")
    expect(page.locator(".card h2").first).to_have_text("hum.flac")
    page.get_by_role("button", name="remove").click()
    expect(page.get_by_role("status")).to_have_text("Nearest to “700” without “2600”")
    expect(page.locator(".card h2").first).to_have_text("hum.flac")


def test_addresses_can_be_kept_and_gone_back_to(page, url):
    search(page, "700")
    search(page, "2600")
    page.go_back()
    expect(page.locator(".card h2").first).to_have_text("hum.flac")
    expect(page.get_by_role("searchbox")).to_have_value("700")
    page.goto("about:blank")
    page.goto(f"{url}#q=2600")
    expect(page.locator(".card h2").first).to_have_text("odd.aiff")


def test_trouble_is_said(page, sounds):
    (sounds.folder / "hum.flac").unlink()
    first = search(page, "700").first
    expect(first.get_by_role("alert")).to_have_text("this file is no longer there; run `slap index` again")
    first.get_by_role("button", name=re.compile("Play")).click()
    expect(first.get_by_role("alert")).to_have_text("this sound cannot be played here")
    page.route("**/api/search*", lambda route: route.abort())
    page.get_by_role("searchbox").fill("2600")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("the server does not answer")
    assert page.wrong
    page.wrong.clear()  # the browser's own words about what could not be loaded


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_by_day_and_by_night(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 700})
    expect(search(page, "1900")).to_have_count(6)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    red, green, blue = map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert (red + green + blue > 600) == (scheme == "light")


def test_more_hits_duplicates_and_probabilities(page, sounds, url):
    for i in range(8):
        sounds.tone(f"more{i}.wav", 1000 + 200 * i)
    (sounds.folder / "copy.flac").write_bytes((sounds.folder / "hum.flac").read_bytes())
    sounds.update()
    sounds.model.calibration = Calibration("sigmoid", 20.0, -10.0)
    page.goto("about:blank")
    page.goto(url)
    cards = search(page, "700")
    expect(cards).to_have_count(10)
    expect(cards.first.locator(".alike summary")).to_have_text("and 1 more alike")
    expect(cards.first.locator(".chance")).to_have_text("> 99 %")
    page.get_by_role("button", name="Show more").click()
    expect(cards).to_have_count(14)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    page.get_by_label("only probable ones").check()
    expect(cards).to_have_count(1)
    page.get_by_role("searchbox").fill("7900")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("None of these sounds is probable for “7900”: the nearest has")
    expect(cards).to_have_count(0)
