"""The page as a person meets it: in Chromium, light and dark, wide and narrow."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain.index import corrections
from edgetpu_retrain.index.corrections import AppliedCorrection
from edgetpu_retrain.report import findings
from edgetpu_retrain.report.suspects import find_suspects
from tests.browser import open_browser, set_window, wait_for
from tests.unit.test_report import HOSTILE, document_of, made_up, predictions_of, run_of


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    folder = tmp_path_factory.mktemp("downloads")
    with open_browser() as opened:
        opened.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)}
        )
        opened.downloads = folder
        yield opened


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> findings.Run:
    """Photos of one colour in three classes of hostile names, some with a wrong label."""
    folder = tmp_path_factory.mktemp("photos")
    predictions = made_up(3, 30, 0.7, HOSTILE)
    paths = []
    for i in range(len(predictions.labels)):
        path = folder / f"{i} <b>\"'\t&.png"
        Image.new("RGB", (90, 60), (i * 2, 90, 200 - i)).save(path)
        paths.append(str(path))
    predictions = predictions_of(
        predictions.scores, predictions.labels, HOSTILE, paths=tuple(paths)
    )
    groups = np.arange(len(paths))
    groups[59] = 0
    earlier = [
        AppliedCorrection("e" * 64, "gone.jpg", "", HOSTILE[1], "missing", 'said "so"'),
        AppliedCorrection(predictions.identities[1], paths[1], HOSTILE[0], "", "left out", ""),
    ]
    return run_of(predictions, groups, corrections=earlier)


@pytest.fixture(scope="module")
def address(run: findings.Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(document_of(findings.find(run), folder="results/birds/net"), "utf-8")
    return path.as_uri()


def open_page(browser, address: str, width: int = 1100, colours: str = "light") -> None:
    set_window(browser, width, colours)
    browser.get(address)


def test_no_error_and_no_request(browser, address: str):
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    open_page(browser, address)
    pictures = "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
    wait_for(lambda: browser.execute_script(pictures))
    assert browser.execute_script("return document.images.length") > 10
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in requested if not url.startswith("data:")] == [address]


def test_names_are_shown_as_text(browser, address: str, run: findings.Run):
    open_page(browser, address)
    script = (
        "return [...document.querySelectorAll('#classes ~ .scroll td.name')].map(c=>c.innerText)"
    )
    assert browser.execute_script(script)[:3] == list(HOSTILE)
    short = browser.execute_script("return document.querySelector('.card .path').innerText")
    assert any(short == Path(path).name.replace("\t", " ") for path in run.predictions.paths)


def test_decisions_are_saved_and_read_back(browser, address: str, run: findings.Run):
    open_page(browser, address)
    browser.execute_script("localStorage.clear()")
    open_page(browser, address)
    shown, names = run.predictions, run.predictions.classes
    suspects = [
        SimpleNamespace(
            sha256=shown.identities[row],
            path=shown.paths[row],
            label=names[shown.labels[row]],
            suggested=names[shown.predicted[row]],
        )
        for row in find_suspects(shown, {one.sha256 for one in run.corrections})
    ]
    assert len(suspects) >= 4
    suggested, kept, left_out, other = suspects[:4]
    third = ({*HOSTILE} - {other.label, other.suggested}).pop()
    press(browser, suggested.sha256, suggested.suggested)
    press(browser, kept.sha256, kept.label)
    press(browser, left_out.sha256, "")
    # Pressed twice is not decided.
    press(browser, suspects[4].sha256, "")
    press(browser, suspects[4].sha256, "")
    choose(browser, other.sha256, third)
    assert browser.find_element("id", "number").text == "4 photos reviewed."
    # What was decided outlives the tab.
    open_page(browser, address)
    assert browser.find_element("id", "number").text == "4 photos reviewed."
    browser.find_element("id", "save").click()
    saved = browser.downloads / "corrections.tsv"
    wait_for(lambda: saved.is_file() and saved.stat().st_size)
    found = {sha256: one.label for sha256, one in corrections.read(saved).items()}
    assert found == {
        "e" * 64: HOSTILE[1],
        run.predictions.identities[1]: "",
        suggested.sha256: suggested.suggested,
        kept.sha256: kept.label,
        left_out.sha256: "",
        other.sha256: third,
    }
    read = corrections.read(saved)
    assert read["e" * 64].note == 'said "so"'
    assert read[kept.sha256].path == kept.path
    assert read[kept.sha256].note == "confirmed"


def test_cells_that_a_spreadsheet_would_compute_are_protected(browser, tmp_path: Path):
    names = ("=1+1", "+plus", "-minus", "@at", "'=quoted", "'plain")
    predictions = made_up(6, 20, 0.7, names)
    page = tmp_path / "report.html"
    page.write_text(document_of(findings.find(run_of(predictions))), "utf-8")
    open_page(browser, page.as_uri())
    browser.execute_script("localStorage.clear()")
    open_page(browser, page.as_uri())
    boxes = "return [...document.querySelectorAll('.decide')].map(d => d.dataset.sha256)"
    chosen = {}
    for sha256, name in zip(dict.fromkeys(browser.execute_script(boxes)), names, strict=False):
        choose(browser, sha256, name)
        chosen[sha256] = name
    saved = browser.downloads / "corrections.tsv"
    saved.unlink(missing_ok=True)
    browser.find_element("id", "save").click()
    wait_for(lambda: saved.is_file() and saved.stat().st_size)
    cells = [line.split("\t") for line in saved.read_text("utf-8").splitlines()[1:]]
    protected = {"'=1+1", "'+plus", "'-minus", "'@at", "''=quoted", "'plain"}
    assert {row[1] for row in cells} == protected
    assert {sha256: one.label for sha256, one in corrections.read(saved).items()} == chosen


def test_a_table_sorts_on_a_click(browser, address: str, run: findings.Run):
    open_page(browser, address)
    column = (
        "const t = document.querySelector('#classes ~ .scroll table');"
        "return [...t.tBodies[0].rows].map(r => Number(r.cells[3].innerText))"
    )
    click = "document.querySelectorAll('#classes ~ .scroll th button')[3].click()"
    before = browser.execute_script(column)
    browser.execute_script(click)
    assert browser.execute_script(column) == sorted(before)
    browser.execute_script(click)
    assert browser.execute_script(column) == sorted(before, reverse=True)
    assert len(set(before)) > 1


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1100])
def test_it_is_readable_on_a_phone_and_in_the_dark(browser, address: str, width: int, colours: str):
    open_page(browser, address, width, colours)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    style = "getComputedStyle(document.querySelector('.verdict p'))"
    panel = "getComputedStyle(document.querySelector('.verdict')).backgroundColor"
    text, back = browser.execute_script(f"return [{style}.color, {panel}]")
    assert contrast(text, back) >= 7
    assert (luminance(back) < 0.5) == (colours == "dark")
    font = browser.execute_script(f"return parseFloat({style}.fontSize)")
    assert font >= 16


def test_no_cell_is_broken_into_letters(browser, address: str):
    open_page(browser, address, 390)
    browser.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    script = """
        return [...document.querySelectorAll('td, th, dd')].filter(cell => {
          const range = document.createRange();
          range.selectNodeContents(cell);
          const tops = new Set([...range.getClientRects()].map(box => Math.round(box.top / 8)));
          return tops.size > 2 + cell.innerText.length / 4;
        }).map(cell => cell.innerText)"""
    assert browser.execute_script(script) == []


@pytest.mark.parametrize(("width", "most"), [(1280, 8_000), (390, 12_500)])
def test_many_groups_are_folded(browser, tmp_path: Path, width: int, most: int):
    names = tuple(f"class {i}" for i in range(40))
    predictions = made_up(40, 25, 0.7, names)
    groups = np.arange(1000) // 3
    path = tmp_path / "report.html"
    path.write_text(document_of(findings.find(run_of(predictions, groups))), "utf-8")
    open_page(browser, path.as_uri(), width)
    shown = "return document.documentElement.scrollHeight"
    assert browser.execute_script(shown) < most
    folded = browser.execute_script(shown)
    browser.execute_script("for (const d of document.querySelectorAll('.fold')) d.open = true")
    assert browser.execute_script(shown) > 1.5 * folded


def test_every_photo_can_be_decided_about_and_undone(browser, address: str):
    open_page(browser, address)
    browser.execute_script("localStorage.clear()")
    open_page(browser, address)
    cards = "return document.querySelectorAll('.card').length"
    boxes = "return document.querySelectorAll('.card .decide:not([hidden]) button').length"
    assert browser.execute_script(boxes) >= 2 * browser.execute_script(cards)
    in_section = (
        "return [...document.querySelectorAll('.decide')].find(d => "
        "document.getElementById(arguments[0]).compareDocumentPosition(d) & 4).dataset.sha256"
    )
    first, second = (browser.execute_script(in_section, name) for name in ("mistakes", "uncertain"))
    press(browser, first, "")
    press(browser, second, "")
    press(browser, second, "")
    decided = (
        "return [...new Set([...document.querySelectorAll('.card.decided .decide')]"
        ".map(d => d.dataset.sha256))]"
    )
    undo = browser.find_element("id", "undo")
    assert browser.execute_script(decided) == [first]
    undo.click()
    assert sorted(browser.execute_script(decided)) == sorted({first, second})
    undo.click()
    undo.click()
    assert browser.execute_script(decided) == []
    assert not browser.find_element("id", "bar").is_displayed()


def test_a_thumbnail_opens_large(browser, address: str, run: findings.Run):
    open_page(browser, address)
    browser.execute_script("document.querySelector('.card img').click()")
    large = "document.querySelector('dialog[open] img')"
    # The photo itself, which is 90 pixels wide.
    wait_for(lambda: browser.execute_script(f"return {large}.naturalWidth") == 90)
    assert browser.execute_script(f"return {large}.src").startswith("file:")
    gone = "const i = document.querySelectorAll('.card img')[1]; i.dataset.address += 'x';"
    browser.execute_script("document.querySelector('dialog').close()")
    browser.execute_script(f"{gone} i.click()")
    wait_for(lambda: browser.execute_script(f"return {large}.src").startswith("data:"))


def press(browser, sha256: str, label: str) -> None:
    script = (
        "[...document.querySelector(`.decide[data-sha256='${arguments[0]}']`)"
        ".querySelectorAll('button')].find(b => b.value === arguments[1]).click()"
    )
    browser.execute_script(script, sha256, label)


def choose(browser, sha256: str, label: str) -> None:
    """Decides for a class, by its button or in the list of the other classes."""
    script = """
        const box = document.querySelector(`.decide[data-sha256='${arguments[0]}']`);
        const button = [...box.querySelectorAll('button')].find(b => b.value === arguments[1]);
        if (button) return button.click();
        const list = box.querySelector('select');
        list.value = arguments[1];
        list.dispatchEvent(new Event('change'));"""
    browser.execute_script(script, sha256, label)


def luminance(colour: str) -> float:
    """The relative luminance of rgb(r, g, b) (WCAG 2.1)."""
    parts = [int(p) / 255 for p in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(first: str, second: str) -> float:
    bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)
