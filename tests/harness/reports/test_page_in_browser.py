"""The page as a browser shows it: whole, reachable by keyboard, legible, at any width, with no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.reports.page.page import write_page
from tests.harness.reports.browser import browser, show, why_not
from tests.harness.reports.made_up_report import HOSTILE, acquitted_loss, convicted_loss, convicted_step, hostile_report

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"no browser: {why_not()}")
NARROW = 390
_CONTRAST = 4.5
PAGES: dict[str, Callable[[], dict[str, Any]]] = {
    "loss": convicted_loss,
    "step": convicted_step,
    "held": acquitted_loss,
    "hostile": hostile_report,
}
# For each text that is seen, the contrast of its colour with what lies behind it.
_CONTRASTS = """
const parts = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
const light = (rgb) => {
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = rgb.slice(0, 3).map((v) => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const found = parts(getComputedStyle(e).backgroundColor);
    if (found.length === 3 || found[3] > 0) return found;
  }
  return [255, 255, 255];
};
const found = [];
for (const details of document.querySelectorAll("details")) details.open = true;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  const text = walker.currentNode.textContent.trim();
  if (!text || ["SCRIPT", "STYLE"].includes(element.tagName) || element.getClientRects().length === 0) continue;
  const style = getComputedStyle(element);
  const [a, b] = [parts(element.namespaceURI.endsWith("svg") ? style.fill : style.color), behind(element)].map(light);
  found.push([text.slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]);
}
return found;
"""


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as driver:
        yield driver


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_legible_light_and_dark_wide_and_narrow(name: str, driver: Any, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write_page(file, PAGES[name]())
    show(driver, file)
    assert driver.execute_script("return window.hacked === undefined")
    assert driver.execute_script("return performance.getEntriesByType('resource').map(e => e.name)") == []
    for details in driver.find_elements("tag name", "details"):
        driver.execute_script("arguments[0].open = true", details)
    images = driver.execute_script("return [...document.images].map(i => [i.naturalWidth, i.width, i.alt])")
    assert all(natural > 0 and shown > 60 and alt for natural, shown, alt in images), images
    assert bool(images) == (name == "loss")
    targets = driver.execute_script("return [...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    ids = driver.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(set(ids)) == len(ids)
    assert {target[1:] for target in targets} <= set(ids)
    drawn = driver.execute_script("return document.querySelectorAll('.drawing svg path').length")
    assert (drawn > 0) == (name != "held")
    _assert_fits(driver, 1280)
    show(driver, file, width=NARROW)
    _assert_fits(driver, NARROW)
    grounds = set()
    for dark in (False, True):
        show(driver, file, dark=dark)
        contrasts = driver.execute_script(_CONTRASTS)
        assert len(contrasts) > 30
        assert not [pair for pair in contrasts if pair[1] < _CONTRAST]
        grounds.add(_ground(driver))
        driver.find_element("id", "theme").click()
        grounds.add(_ground(driver))
    assert len(grounds) == 2
    assert driver.get_log("browser") == []


def _ground(driver: Any) -> str:
    return str(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))


def _assert_fits(driver: Any, width: int) -> None:
    """The page's body doesn't scroll sideways; what is wider scrolls in its own box."""
    for details in driver.find_elements("tag name", "details"):
        driver.execute_script("arguments[0].open = true", details)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    outside = """return [...document.querySelectorAll('body *')].filter(e => !e.closest('.box, pre, .drawing, .skip')
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert driver.execute_script(outside) == []
    scrolls = "getComputedStyle(table.closest('.box')).overflowX === 'auto'"
    assert driver.execute_script(f"return [...document.querySelectorAll('table')].every(table => {scrolls})")


def test_everything_is_reached_by_keyboard_and_links_open_what_is_folded(driver: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    file = tmp_path / "page.html"
    report = convicted_loss()
    write_page(file, report)
    show(driver, file)
    reached: list[str] = []
    for _ in range(300):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        said = driver.execute_script(
            "const e = document.activeElement; const s = getComputedStyle(e);"
            "return e === document.body ? null : [e.id || e.getAttribute('href') || e.className || e.tagName, "
            "e.tagName, s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2]"
        )
        if said is None or said[0] in reached[:1]:
            break
        assert said[2], f"{said[0]} shows no focus"
        reached.append(said[0])
    violated = [cell for cell in report["results"] if cell["status"] == "violated"]
    links = [f"#{cell['kind']}.{cell['property']}.{cell['precision']}" for cell in violated]
    assert links
    assert {"#results", "theme", *links} <= set(reached)
    assert reached.index("theme") < reached.index(links[0])

    folded = driver.find_element("css selector", "main > .section details:not([open])")
    link = driver.find_element("css selector", f"a[href='#{folded.get_attribute('id')}']")
    link.send_keys(Keys.ENTER)
    assert driver.execute_script("return arguments[0].open", folded)
    theme = driver.find_element("id", "theme")
    before = _ground(driver)
    theme.send_keys(Keys.ENTER)
    assert _ground(driver) != before


def test_what_a_subject_says_is_text(driver: Any, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write_page(file, hostile_report())
    show(driver, file)
    sentence = driver.find_element("css selector", ".sentence")
    assert sentence.get_attribute("textContent") == HOSTILE
    assert driver.execute_script("return document.scripts.length") == 1
    assert HOSTILE[:30] in driver.execute_script("return document.querySelector('.drawing').textContent")


def test_a_script_that_is_put_in_all_the_same_does_not_run(driver: Any, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write_page(file, hostile_report())
    file.write_text(file.read_text().replace("<footer>", "<script>window.hacked = 1</script><footer>"))
    show(driver, file)
    assert driver.execute_script("return window.hacked === undefined")
    driver.get_log("browser")
