"""The playground page in a real browser against a real server."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailmark.serve.command import Server
from tests.marked_model import marked_model
from tests.serving import serving
from tests.taught_model import LESSONS, taught_model

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -r requirements-browser.txt")
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")

WIDTHS = ({"width": 1366, "height": 900}, {"width": 390, "height": 844})
KEY = "open sesame"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("models")
    return taught_model(root / "a"), marked_model(root / "b", arm="baseline", markers=())


@pytest.fixture(scope="module")
def server(folders: tuple[Path, Path]) -> Iterator[Server]:
    model, baseline = folders
    with serving(model, baseline=str(baseline), default_new_tokens=30, constrained=False) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that may report no error and load nothing from elsewhere."""
    context = browser.new_context(viewport=WIDTHS[0])
    page, wrong = context.new_page(), list[str]()
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith(("http://127.0.0.1", "data:")) else None)
    yield page
    context.close()
    assert not wrong


def text(page: Any, name: str) -> str:
    return str(page.inner_text(f"#{name} .text"))


def wait_for_answers(page: Any) -> None:
    page.wait_for_selector("#go:not([disabled])")


def test_three_answers_side_by_side_with_their_markers(page: Any, server: Server) -> None:
    inferred, fixed = LESSONS[0], LESSONS[1]
    page.goto(server.url)
    assert "Pick at least one marker" in page.inner_text("#fixed .state")
    page.fill("#prompt", "Who?")
    page.select_option("#marker-lang", "French")
    assert page.inner_text("#marker-lang-help") == "French."
    page.fill("#marker-length_tokens", "9")
    page.keyboard.press("Tab")
    page.click("#go")
    wait_for_answers(page)
    assert (text(page, "inferred"), text(page, "fixed")) == (inferred.answer, fixed.answer)
    assert text(page, "baseline")
    assert page.locator("#inferred dd").all_inner_texts() == [str(value) for value in inferred.written.values()]
    assert page.locator("#fixed .same").count() == 2
    assert page.locator("#fixed dt").all_inner_texts() == list(fixed.written)
    assert not page.is_visible("#baseline footer")


def test_it_fits_a_laptop_and_a_phone_and_every_field_has_a_label(page: Any, server: Server) -> None:
    for size in WIDTHS:
        page.set_viewport_size(size)
        page.goto(server.url)
        page.wait_for_selector("#ask:not([hidden])")
        page.click("summary")
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    unnamed = "[...document.querySelectorAll('input, select, textarea')].filter(field => !field.labels.length).map(field => field.id)"
    assert page.evaluate(unnamed) == []


def test_an_answer_is_text_and_never_part_of_the_page(page: Any, server: Server) -> None:
    page.goto(server.url)
    page.fill("#prompt", LESSONS[2].messages[0]["content"])
    page.keyboard.press("Control+Enter")
    wait_for_answers(page)
    assert text(page, "inferred") == LESSONS[2].answer
    assert page.locator("#inferred .text *").count() == 0


def test_stop_and_again(page: Any, server: Server) -> None:
    page.goto(server.url)
    page.click("summary")
    page.fill("#most", "1024")
    page.fill("#prompt", "Something that nobody taught it, so that it goes on and on?")
    page.click("#go")
    page.wait_for_selector("#stop:not([disabled])")
    page.click("#stop")
    wait_for_answers(page)
    assert "Stopped." in page.inner_text("#answers")


def test_a_refusal_is_told_in_its_card_and_can_be_tried_again(page: Any, server: Server) -> None:
    page.goto(server.url)
    page.wait_for_selector("#ask:not([hidden])")
    page.fill("#prompt", "Who? " * 5000)
    page.click("#go")
    wait_for_answers(page)
    assert "tokens" in page.inner_text("#inferred .state.failed")
    page.fill("#prompt", "Who?")
    page.click("#inferred .retry")
    wait_for_answers(page)
    assert text(page, "inferred") == LESSONS[0].answer


def test_keys_and_no_baseline(page: Any, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILMARK_API_KEYS", hashlib.sha256(KEY.encode()).hexdigest())
    with serving(folders[0], default_new_tokens=30, constrained=False, markers={"lang": "French"}) as server:
        page.goto(server.url)
        page.fill("#key", "wrong")
        page.click("#key-form button")
        page.wait_for_selector("#problem:not([hidden])")
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#ask:not([hidden])")
        assert not page.is_visible("#key-form")
        assert page.inner_text("#marker-lang option:checked") == "French (default)"
        assert page.inner_text("#baseline .state")
        page.fill("#prompt", "Who?")
        page.fill("#marker-length_tokens", "9")
        page.click("#go")
        wait_for_answers(page)
        assert (text(page, "inferred"), text(page, "fixed")) == (LESSONS[0].answer, LESSONS[1].answer)


def test_a_server_that_went_away(page: Any, folders: tuple[Path, Path]) -> None:
    with serving(folders[0]) as server:
        page.goto(server.url)
        page.wait_for_selector("#ask:not([hidden])")
    page.fill("#prompt", "Who?")
    page.click("#go")
    wait_for_answers(page)
    assert "cannot be reached" in page.inner_text("#inferred .state.failed")
