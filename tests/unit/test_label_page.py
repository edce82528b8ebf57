"""The labelling page as a person uses it: in Chromium, with the server as a program of its own."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgetpu_retrain.index import corrections
from tests.browser import open_browser, set_window, wait_for
from tests.labelling import labels_in, lay_colours, prepare, served
from tests.unit.test_report_in_browser import contrast, luminance

pytest.importorskip("flask", reason="needs the extra `label`")
pytest.importorskip("waitress", reason="needs the extra `label`")
HOSTILE = "<script>document.title='cracked'</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder in which the page can be started, and the colour of every photo by name."""
    folder = tmp_path_factory.mktemp("laid")
    truth = lay_colours(folder / "heap", 30, "photo <b>&\"' ")
    prepare(folder, folder / "heap")
    return folder, truth


@pytest.fixture
def truth(laid) -> dict[str, str]:
    return laid[1]


@pytest.fixture
def folder(laid, tmp_path: Path) -> Path:
    """A copy of the results of that folder, without labels; photos stay where they are."""
    shutil.copytree(laid[0] / "results", tmp_path / "results")
    sources = tmp_path / "results/labelling.json"
    sources.write_text(sources.read_text().replace(str(laid[0]), str(tmp_path)))
    return tmp_path


class Page:
    """The page in a tab."""

    def __init__(self, browser, address: str, width: int = 1200, **window) -> None:
        self.browser = browser
        set_window(browser, width, **window)
        browser.get(address)
        wait_for(lambda: browser.execute_script("return document.body.dataset.ready === 'true'"))
        self.settle()

    def run(self, script: str, *arguments):
        return self.browser.execute_script(script, *arguments)

    def settle(self) -> None:
        wait_for(lambda: not self.run("return document.body.hasAttribute('aria-busy')"))

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.browser).send_keys(key).perform()
            self.settle()

    def type_class(self, name: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        self.press("n")
        ActionChains(self.browser).send_keys(name + Keys.ENTER).perform()
        self.settle()

    def marked(self) -> list[str]:
        """The names of the photos in the marked group."""
        tiles = "document.querySelectorAll('.group.marked .tile')"
        return self.run(f"return [...{tiles}].map(tile => tile.title)")

    def click(self, name: str, shift: bool = False) -> None:
        self.run(
            "[...document.querySelectorAll('.tile')].find(t => t.title === arguments[0])"
            ".dispatchEvent(new MouseEvent('click', {bubbles: true, shiftKey: arguments[1]}))",
            name,
            shift,
        )

    def selected(self) -> set[str]:
        tiles = "document.querySelectorAll('.tile[aria-pressed=true]')"
        return set(self.run(f"return [...{tiles}].map(tile => tile.title)"))

    def classes(self) -> dict[str, int]:
        rows = "document.querySelectorAll('#classes button')"
        script = (
            f"return [...{rows}].map(b => [b.querySelector('.class').innerText, "
            "b.querySelector('.photos').innerText])"
        )
        return {name: int(number) for name, number in self.run(script)}

    def key_of(self, name: str) -> str:
        return str(list(self.classes()).index(name) + 1)

    def waiting(self) -> int:
        return int(self.run("return document.querySelector('[data-view=todo] span').innerText"))


@pytest.fixture
def page(browser, folder: Path) -> Iterator[Page]:
    with served(folder) as (address, _):
        yield Page(browser, address)


def commonest(names: list[str], truth: dict[str, str]) -> str:
    return Counter(truth[name] for name in names).most_common(1)[0][0]


def test_the_command_that_trains_is_the_user_s(page: Page):
    command = page.run("return document.getElementById('command').textContent")
    assert command.endswith("snakemake --cores all")


def test_from_nothing_to_a_label_for_every_photo(page: Page, folder: Path, truth):
    """A person who knows the truth names groups; every action is in the file at once."""
    actions = 0
    while page.waiting():
        names = page.marked()
        label = commonest(names, truth)
        for name in [name for name in names if truth[name] != label]:
            page.click(name)
            actions += 1
        if wrong := page.selected():
            label = commonest(list(wrong), truth)
            for name in [name for name in wrong if truth[name] != label]:
                page.click(name)
        before = labels_in(folder)
        expected = page.selected() or set(names)
        if label in page.classes():
            page.press(page.key_of(label))
        else:
            page.type_class(label)
        actions += 1
        after = labels_in(folder)
        new = after.keys() - before.keys()
        assert new == expected
        assert {after[name] for name in new} == {label}
        assert actions < 60
    assert labels_in(folder) == truth
    assert page.classes() == dict.fromkeys(page.classes(), 30)
    verdict = "return document.querySelector('#verdict').innerText"
    wait_for(lambda: page.run(verdict) == "Every photo has a label.")
    assert page.run("return document.querySelectorAll('#curve path').length") == 2
    logged = [one for one in page.browser.get_log("browser") if one["level"] == "SEVERE"]
    # The log begins with the pages of other tests, whose servers have ended.
    assert [one for one in logged if page.browser.current_url in one["message"]] == []


def test_enter_confirms_what_the_model_suggests(page: Page, folder: Path, truth):
    for _ in range(30):
        if page.run("return document.querySelector('.group.marked .confirm') !== null"):
            break
        label = commonest(page.marked(), truth)
        page.type_class(label) if label not in page.classes() else page.press(page.key_of(label))
    title = page.run("return document.querySelector('.group.marked h2').innerText")
    names = page.marked()
    page.press("\ue007")
    given = labels_in(folder)
    (label,) = {given[name] for name in names}
    assert label in title


def test_the_accuracy_is_shown_from_two_photos_of_two_classes_on(page: Page, truth):
    figure = (
        "return ['accuracy', 'interval', 'said'].map(id => document.getElementById(id).innerText)"
    )
    assert page.run(figure) == ["–", "", ""]
    for colour in ("red", "blue"):
        names = page.run("return [...document.querySelectorAll('.tile')].map(tile => tile.title)")
        for name in [name for name in names if truth[name] == colour][:2]:
            page.click(name)
        page.type_class(colour)
    wait_for(lambda: page.run(figure)[0] != "–")
    accuracy, interval, said = page.run(figure)
    low, high = (int(part.rstrip("%")) for part in interval.split(" to "))
    assert low <= int(accuracy.rstrip("%")) <= high
    assert said.startswith("of the 4 labelled photos")


def test_click_shift_click_and_a_frame_select(page: Page, folder: Path):
    names = page.marked()
    page.click(names[0])
    page.click(names[3], shift=True)
    assert page.selected() == set(names[:4])
    page.click(names[1])
    assert page.selected() == {names[0], names[2], names[3]}
    page.type_class("mine")
    assert labels_in(folder) == dict.fromkeys([names[0], names[2], names[3]], "mine")
    from selenium.webdriver.common.action_chains import ActionChains

    left = page.marked()
    assert left[0] == names[1]
    tiles = page.browser.find_elements("css selector", ".group.marked .tile")
    drag = ActionChains(page.browser).move_to_element(tiles[0]).click_and_hold()
    drag.move_to_element(tiles[1]).release().perform()
    assert page.selected() == set(left[:2])
    page.press("\ue00c")
    assert page.selected() == set()


def test_the_keyboard_alone_selects(page: Page, folder: Path):
    names = page.marked()
    right, left = "\ue014", "\ue012"
    page.press(right, right, " ", right, right, left, " ")
    assert page.selected() == {names[1], names[2]}
    page.press(" ")
    page.type_class("mine")
    assert labels_in(folder) == {names[1]: "mine"}


def test_undo_has_no_end_and_outlives_the_server(browser, folder: Path):
    with served(folder) as (address, program):
        page = Page(browser, address)
        states = [labels_in(folder)]
        page.type_class("first")
        states.append(labels_in(folder))
        page.press("x")
        states.append(labels_in(folder))
        assert "" in states[-1].values()
        page.click(page.marked()[0])
        page.type_class("second")
        states.append(labels_in(folder))
        assert page.press("u") is None
        assert labels_in(folder) == states[2]
        page.type_class("third")
        program.kill()
    assert "third" in labels_in(folder).values()
    with served(folder) as (address, _):
        page = Page(browser, address)
        for state in (states[2], states[1], states[0]):
            page.press("u")
            assert labels_in(folder) == state
        assert not page.browser.find_element("id", "undo").is_enabled()


def test_a_reload_and_a_second_tab_show_the_same(page: Page, folder: Path):
    page.type_class("one")
    first, address = page.browser.current_window_handle, page.browser.current_url
    page.browser.switch_to.new_window("tab")
    other = Page(page.browser, address)
    assert other.classes() == page.classes()
    assert not set(other.marked()) & labels_in(folder).keys()
    other.type_class("two")
    classes, waiting = other.classes(), other.waiting()
    page.browser.close()
    page.browser.switch_to.window(first)
    wait_for(lambda: page.classes() == classes)
    assert page.waiting() == waiting
    shown = "return [...document.querySelectorAll('.tile')].map(tile => tile.title)"
    wait_for(lambda: not set(page.run(shown)) & labels_in(folder).keys())


def test_an_edit_of_the_file_meanwhile_is_kept(page: Page, folder: Path):
    page.type_class("one")
    path = folder / "corrections.tsv"
    path.write_text(path.read_text() + f"{'e' * 64}\tgone\tgone.jpg\tby hand\n")
    edited = path.read_text().replace("\tone\t", "\tanother\t", 1)
    path.write_text(edited)
    page.type_class("two")
    lines = corrections.read(path)
    assert lines["e" * 64].note == "by hand"
    assert {"one", "another", "two", "gone"} == {line.label for line in lines.values()}
    wait_for(lambda: "another" in page.classes())
    # A mistake in it is shown, and nothing is lost.
    path.write_text(path.read_text() + "a line that is none\n")
    before = path.read_text()
    page.press("1")
    problem = page.browser.find_element("id", "problem").text
    assert str(path) in problem and "Correct or remove the line" in problem
    assert path.read_text() == before
    path.write_text(before.replace("a line that is none\n", ""))
    wait_for(lambda: not page.browser.find_element("id", "problem").is_displayed())


def test_a_server_that_is_gone_is_told(browser, folder: Path):
    with served(folder) as (address, program):
        page = Page(browser, address)
        program.kill()
        program.wait()
        before = page.waiting()
        page.press("x")
        assert "has ended" in page.browser.find_element("id", "problem").text
        assert page.waiting() == before
    assert labels_in(folder) == {}


def test_hostile_names_are_text(page: Page, folder: Path):
    title = page.browser.title
    page.type_class(HOSTILE.replace("/", ""))
    page.type_class("<img src=x onerror=\"document.title='cracked'\">")
    assert len(page.classes()) == 2
    page.run("document.querySelector('[data-view=labelled]').click()")
    page.settle()
    wait_for(lambda: page.run("return document.querySelectorAll('.tile').length > 0"))
    assert page.browser.title == title
    assert page.run("return document.querySelectorAll('main script, main b').length") == 0
    # A class with a slash could not be a folder.
    page.type_class(HOSTILE)
    assert "slash" in page.browser.find_element("id", "problem").text


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_it_is_readable_and_can_be_touched(browser, folder: Path, width: int, colours: str):
    with served(folder) as (address, _):
        page = Page(browser, address, width, colours=colours, touch=width == 390)
        assert page.run("return document.documentElement.scrollWidth") <= width
        page.type_class("one")
        style = "getComputedStyle(document.querySelector('#classes .class'))"
        back = "getComputedStyle(document.body).backgroundColor"
        text, back = page.run(f"return [{style}.color, {back}]")
        assert contrast(text, back) >= 7
        assert (luminance(back) < 0.5) == (colours == "dark")
        button = page.browser.find_element("css selector", "#classes button")
        assert button.size["height"] >= 30
        if width == 390:
            before = page.waiting()
            page.browser.find_element("css selector", ".tile").click()
            assert len(page.selected()) == 1
            button.click()
            page.settle()
            assert page.waiting() == before - 1


def test_every_button_has_a_name(page: Page):
    page.type_class("one")
    tree = page.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    buttons = [node for node in tree if node.get("role", {}).get("value") == "button"]
    names = [node["name"].get("value", "") for node in buttons if not node.get("ignored")]
    assert len(names) > 20
    assert all(names)


def test_twenty_thousand_photos_are_not_all_in_the_document(browser, folder: Path):
    with served(folder) as (address, _):
        page = Page(browser, address)
        # As many groups as of 20,000 photos, through the page's own functions.
        script = (
            "const real = window.fetch; window.fetch = async (path, options) => {"
            " const answer = await real(path, options);"
            " if (path !== 'view/labelled') return answer;"
            " const cards = [...Array(40).keys()].map(i => [i]);"
            " const groups = [...Array(500).keys()].map(() => ({kind: 'left_out', class: null,"
            " cards: cards.map(card => [...card])}));"
            " return new Response(JSON.stringify({view: 'labelled', groups})); };"
            "document.querySelector('[data-view=labelled]').click()"
        )
        page.run(script)
        wait_for(lambda: page.run("return document.body.scrollHeight > 300000"))
        assert page.run("return document.querySelectorAll('.tile').length") < 500
        page.run("window.scrollTo(0, document.body.scrollHeight / 2)")
        near = (
            "return [...document.querySelectorAll('.tile')].some(t => {"
            " const top = t.getBoundingClientRect().top; return top > 0 && top < innerHeight; })"
        )
        wait_for(lambda: page.run(near))
        assert page.run("return document.querySelectorAll('.tile').length") < 500
