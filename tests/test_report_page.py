"""The page in a real Chromium: it opens from disk, every control does what it says, by mouse, by keyboard, anywhere."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.conversation import Turn
from envs.dataset import read_dataset
from envs.trajectory import Step, Trajectory, Utterance, write_jsonl
from results import report
from tests.run_folders import SCRIPT, write_run, write_runs

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install -e '.[test]'")
from selenium.common.exceptions import ElementClickInterceptedException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="no Chromium with its driver; Debian: apt-get install chromium chromium-driver",
    ),
]
VIEWS = ("results", "conversations", "compare", "notes")
FIRST = "shop/bandit/seed0|plain-iid_test|"
"""Ids of the learner's conversations begin so; the scenario follows."""


class Page:
    """A page that is open in a browser."""

    def __init__(self, driver: Any, path: Path):
        self.driver = driver
        self.url = path.as_uri()

    def go(self, view: str = "results", parts: int = 3) -> None:
        """Open a view afresh, with nothing remembered in the page."""
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}#{view}")
        name = view.partition("?")[0]
        self.until(lambda: self.run("return !!document.querySelector(arguments[0])?.children.length", f"#view-{name}"))
        if name == "results":
            self.until(lambda: len(self.all("article.part")) == parts)
        if name == "conversations":
            self.until(lambda: self.all("#detail .turns"))
        if name == "compare":
            self.until(lambda: len(self.all("#pair .turns")) == 2)

    def go_bare(self, view: str) -> None:
        """Open a view that has nothing to show."""
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}#{view}")
        self.until(lambda: self.all(f"#view-{view} .empty"))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str) -> WebElement:
        return self.all(css)[0]

    def text(self, css: str) -> str:
        return self.run("return document.querySelector(arguments[0]).textContent", css)

    def texts(self, css: str) -> list[str]:
        return self.run("return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)", css)

    def click(self, css: str, number: int = 0) -> None:
        end = time.monotonic() + 10
        while True:
            self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", self.all(css)[number])
            try:
                return self.all(css)[number].click()
            except ElementClickInterceptedException:
                if time.monotonic() > end:
                    raise
            time.sleep(0.1)  # a smooth scroll that a key began is still under way

    def choose(self, css: str, value: str) -> None:
        Select(self.one(css)).select_by_value(value)

    def pick(self, css: str, words: str) -> None:
        Select(self.one(css)).select_by_visible_text(words)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def until(self, condition: Callable[[], Any], seconds: float = 30) -> Any:
        """What ``condition`` returns once it is true."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, "the page did not come to it"
            time.sleep(0.1)
        return found

    def size(self, width: int, height: int = 900) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def media(self, **features: str) -> None:
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})

    @property
    def complaints(self) -> list[str]:
        """What the console said since this was asked last."""
        return [line["message"] for line in self.driver.get_log("browser")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the page, and room for downloads."""
    folder = tmp_path_factory.mktemp("page")
    runs = write_runs(folder / "runs")
    assert report.main(["--runs", str(runs), "--out", str(folder / "report.html"), "--no-plots"]) == 0
    (folder / "downloads").mkdir()
    return folder


@pytest.fixture(scope="module")
def driver(folder) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for word in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(word)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to run as root with one
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    downloads = {"behavior": "allow", "downloadPath": str(folder / "downloads")}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    driver.get((folder / "report.html").as_uri())
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, folder) -> Iterator[Page]:
    page = Page(driver, folder / "report.html")
    page.size(1280)
    page.media(prefers_color_scheme="light", prefers_reduced_motion="no-preference")
    page.run("localStorage.clear()")  # the page before still stands there, which is of the same origin
    yield page
    assert page.complaints == []


def count(page: Page) -> str:
    return page.text("#count")


# ---- opening ---------------------------------------------------------------------------------------------------------


def test_it_opens_from_disk_and_fetches_nothing(page):
    page.go()
    assert page.driver.title == "Parley: results and conversations"
    assert page.run("return performance.getEntriesByType('resource').length") == 0
    assert page.run("return performance.getEntriesByName('first-contentful-paint').length") == 1
    assert page.texts("article.part h2")[-2:] == [
        "elsewhere, trained with plain, budget tiny", "shop, trained with plain, budget tiny",
    ]  # fmt: skip


def test_the_views_are_reached_by_their_links(page):
    page.go()
    for view in VIEWS:
        page.click(f'nav a[data-view="{view}"]')
        page.until(lambda view=view: page.one(f"#view-{view}").is_displayed())
        assert [one for one in VIEWS if page.one(f"#view-{one}").is_displayed()] == [view]
        assert page.one(f'nav a[data-view="{view}"]').get_attribute("aria-current") == "page"
    page.driver.back()
    page.until(lambda: page.one("#view-compare").is_displayed())


def test_an_unknown_address_leads_to_the_results(page):
    page.go()
    page.run("location.hash = '#nowhere'")
    page.until(lambda: page.run("return location.hash") == "#results")


# ---- results ---------------------------------------------------------------------------------------------------------


def agents(page: Page, section: str = "shop-plain-tiny") -> list[str]:
    return page.run(
        "return [...document.querySelectorAll(arguments[0])].map((row) => row.dataset.agent)",
        f"#section-{section} .board tr[data-agent]",
    )


def test_a_column_sorts_both_ways_and_explains_itself(page):
    page.go()
    assert agents(page) == ["echo", "bandit", "always_red"]
    button = '#section-shop-plain-tiny [data-key="return"]'
    page.one(button).send_keys(Keys.ENTER)
    assert agents(page) == ["echo", "bandit", "always_red"]
    assert page.run("return document.activeElement.dataset.key") == "return"
    page.press(Keys.ENTER)
    assert agents(page) == ["always_red", "bandit", "echo"]
    head = page.run("return document.querySelector(arguments[0]).closest('th').getAttribute('aria-sort')", button)
    assert head == "ascending"
    explained = "Mean undiscounted sum of rewards of a conversation, with plain on iid_test."
    assert explained in page.text("#section-shop-plain-tiny .explain")
    described = page.one(button).get_attribute("aria-describedby")
    assert explained in page.run("return document.getElementById(arguments[0]).textContent", described)
    page.click("#section-shop-plain-tiny .leaderboard details summary")
    assert explained in page.one("#section-shop-plain-tiny .glossary").text


def test_intervals_are_numbers_and_bars(page):
    page.go()
    cells = page.texts('#section-shop-plain-tiny tr[data-agent="bandit"] td')
    assert cells[1].startswith("0.700[") and cells[3].startswith("60%[")
    bars = page.all('#section-shop-plain-tiny tr[data-agent="bandit"] svg.interval')
    assert len(bars) == 8  # score, return, success, three held out, what is lost with others and on another split


def test_groups_of_columns_are_shown_and_hidden(page):
    page.go()
    part = "#section-shop-plain-tiny"
    for number, button in enumerate(page.texts(f"{part} .leaderboard .choices button")):
        before = len(page.all(f"{part} .board thead th"))
        page.click(f"{part} .leaderboard .choices button", number)
        assert (len(page.all(f"{part} .board thead th")) > before) == (
            button in ("compared", "cost", "health", "source")
        )
    assert "Conversations" in page.texts(f"{part} .board thead button")
    page.click(f'{part} [data-key="conversations"]')  # rows that spent nothing stand below, either way
    assert agents(page)[0] == "bandit"
    page.click(f'{part} [data-key="conversations"]')
    assert agents(page)[0] == "bandit"


def test_a_row_tells_how_it_was_made_and_leads_to_its_conversations(page):
    page.go()
    row = '#section-shop-plain-tiny tr[data-agent="bandit"]'
    page.click(f"{row} .twist")
    assert page.one(f"{row} .twist").get_attribute("aria-expanded") == "true"
    codes = page.texts(f"{row} + .source code")
    assert codes == ["python -m benchmarks.run agent=bandit seed=0", "python -m benchmarks.run agent=bandit seed=1"]
    page.click(f"{row} + .source a")
    page.until(lambda: page.all("#detail .turns"))
    assert count(page) == "48 of 192 conversations"  # two seeds, four files of six
    page.go()
    page.click(f"{row} .twist")
    page.click('#section-shop-plain-tiny [data-key="return"]')
    assert page.one(f"{row} + .source").is_displayed() and "agent=bandit seed=1" in page.text(f"{row} + .source")
    page.click(f"{row} .twist")
    assert not page.one(f"{row} + .source").is_displayed()


def test_sections_are_picked_and_grouped(page):
    page.go()
    page.choose("#pick-env", "shop")
    page.until(lambda: page.texts("article.part h2") == ["shop, trained with plain, budget tiny"])
    page.choose("#pick-env", "")
    page.until(lambda: len(page.all("article.part")) == 3)
    for key, heading in (("user", "training user plain"), ("budget", "budget tiny"), ("env", "environment elsewhere")):
        page.choose("#pick-by", key)
        page.until(lambda heading=heading: heading in page.texts(".group") and len(page.all("article.part")) == 3)
    for picker, value in (("#pick-user", "plain"), ("#pick-budget", "tiny")):
        page.choose(picker, value)
        page.until(lambda: len(page.all("article.part")) == 3)


def test_a_link_leads_to_a_section(page):
    page.size(1280, 400)
    page.go("results?section=shop-plain-tiny")
    page.until(
        lambda: (
            abs(page.run("return document.getElementById('section-shop-plain-tiny').getBoundingClientRect().top")) < 60
        )
    )


def figure(title: str) -> str:
    """The place of a figure in the section of the shop."""
    names = ["Learning curves", "Performance profiles", "Win rates", "Transfer", "Cost"]
    return f"#section-shop-plain-tiny .figures figure:nth-child({names.index(title) + 1})"


def test_a_figure_has_its_numbers(page):
    page.go()
    for title in ("Learning curves", "Performance profiles", "Win rates", "Transfer", "Cost"):
        place = figure(title)
        assert page.text(f"{place} figcaption").startswith(title)
        page.click(f"{place} summary")
        page.until(lambda place=place: page.all(f"{place} .numbers tbody tr"))
        assert "bandit" in page.text(f"{place} .numbers")


def test_the_numbers_follow_what_the_figure_shows(page):
    page.go()
    place = figure("Transfer")
    page.click(f"{place} summary")
    page.until(lambda: "0.70 [" in page.text(f"{place} .numbers tbody tr:nth-child(2)"))
    page.click(f"{place} .choices button", 2)  # success
    assert "60% [" in page.text(f"{place} .numbers tbody tr:nth-child(2)")


@pytest.fixture(scope="module")
def crowd(driver, tmp_path_factory) -> Page:
    """A page of two dozen learners in a world whose users are others, beside the shop's."""
    folder = tmp_path_factory.mktemp("crowd")
    runs = write_runs(folder / "runs", ["shop"])
    for agent in ("always_red", "echo", *(f"learner_{n:02}" for n in range(23))):
        write_run(runs / "fair" / agent, agent, env="fair", users=("plain", "stranger"))
    for seed in (0, 1):  # one returns .7 on average and the other nothing: an interval as wide as any
        record = write_run(runs / f"fair/wild/seed{seed}", "wild", seed, env="fair", users=("plain", "stranger"))
        if seed:
            nothing = [replace(one, returns=[v and 0.0 for v in one.returns]) for one in record.evaluations]
            (runs / "fair/wild/seed1/record.json").write_text(replace(record, evaluations=nothing).to_json())
    assert report.main(["--runs", str(runs), "--out", str(folder / "report.html"), "--no-plots"]) == 0
    return Page(driver, folder / "report.html")


def crowded(crowd: Page, title: str) -> str:
    crowd.go("results?section=fair-plain-tiny", parts=2)
    return figure(title).replace("shop", "fair")


def inks(crowd: Page, place: str) -> list[tuple[str, ...]]:
    """How each agent of a figure's legend is drawn."""
    names = ("stroke", "fill", "stroke-dasharray")
    drawn = crowd.all(f"{place} .legend svg > *")
    return [(one.tag_name, *(str(one.get_attribute(name)) for name in names)) for one in drawn]


def test_two_dozen_learners_are_told_apart_by_line_and_by_mark(crowd):
    place = crowded(crowd, "Learning curves")
    crowd.until(lambda: crowd.all(f"{place} polyline"))
    assert len(inks(crowd, place)) == len(set(inks(crowd, place))) == 24
    place = figure("Cost").replace("shop", "fair")
    crowd.until(lambda: crowd.all(f"{place} .holder title"))
    assert len(inks(crowd, place)) == len(set(inks(crowd, place))) == 24
    assert {one[0] for one in inks(crowd, place)} == {"circle", "rect", "path"}
    assert crowd.texts(f"{place} .holder title")[:2] == ["learner_00", "learner_01"]


def test_of_many_bands_only_that_of_the_agent_at_hand_is_shown(crowd):
    place = crowded(crowd, "Performance profiles")
    crowd.until(lambda: len(crowd.all(f"{place} polygon")) == 26)
    assert displayed(crowd, place) == []
    crowd.run("document.querySelectorAll(arguments[0])[3].focus()", f"{place} .legend button")
    assert displayed(crowd, place) == [3]
    assert "shown of the agent whose name is pointed at" in crowd.text(f"{place} figcaption")
    few = figure("Performance profiles")
    crowd.until(lambda: len(crowd.all(f"{few} polygon")) == 3)
    assert displayed(crowd, few) == [0, 1, 2]


def displayed(crowd: Page, place: str) -> list[int]:
    bands = crowd.all(f"{place} polygon")
    return [i for i, band in enumerate(bands) if band.value_of_css_property("display") != "none"]


def test_a_score_whose_interval_is_longer_than_the_scale_has_no_colour(crowd):
    place = crowded(crowd, "Transfer")
    crowd.until(lambda: crowd.all(f"{place} td"))
    agents = crowd.texts(f"{place} tbody th")
    styles = [one.get_attribute("style") for one in crowd.all(f"{place} tbody td:nth-child(2)")]
    assert [agent for agent, style in zip(agents, styles, strict=True) if "background" not in style] == ["wild"]
    crowd.click(f"{place} .choices button", 1)  # returns have no such scale
    assert all("background" in one.get_attribute("style") for one in crowd.all(f"{place} tbody td:nth-child(2)"))


def test_an_agent_can_be_taken_out_of_a_figure(page):
    page.go()
    place = figure("Performance profiles")
    page.until(lambda: len(page.all(f"{place} polyline")) == 3)
    page.click(f"{place} .legend button")
    assert len(page.all(f"{place} polyline")) == 2
    assert page.one(f"{place} .legend button").get_attribute("aria-pressed") == "false"
    page.click(f"{place} .legend button")
    assert len(page.all(f"{place} polyline")) == 3
    assert len(page.all(f"{place} .holder .dim")) > 0  # the one at hand stands out


def test_win_rates_are_shown_for_every_condition(page):
    page.go()
    place = figure("Win rates")
    page.until(lambda: page.all(f"{place} .matrix"))
    assert page.texts(f"{place} tbody tr:first-child td") == ["·", "0.70", "1.00"]
    for number, option in enumerate(page.texts(f"{place} option")):
        page.choose(f"{place} select", str(number))
        assert page.texts(f"{place} tbody tr:first-child td") == ["·", "0.70", "1.00"], option


def test_transfer_is_shown_as_score_return_and_success(page):
    page.go()
    place = figure("Transfer")
    page.until(lambda: page.all(f"{place} .matrix"))
    for number, (kind, value) in enumerate({"score": "0.70", "return": "0.70", "success": "60%"}.items()):
        page.click(f"{place} .choices button", number)
        assert page.text(f"{place} .choices [aria-pressed=true]") == kind
        assert page.texts(f"{place} tbody tr:nth-child(2) td") == [value] * 4


def test_every_cost_can_be_chosen(page):
    page.go()
    place = figure("Cost")
    options = page.texts(f"{place} option")
    assert options == ["Conversations", "Exchanges", "Agent tokens", "User tokens", "Learning", "Processor"]
    for label in options:
        page.pick(f"{place} select", label)
        page.until(lambda label=label: label.lower() in page.text(f"{place} svg"))


# ---- conversations ---------------------------------------------------------------------------------------------------


FILTERED = [
    ("world", "shop", "96 of 192 conversations"),
    ("agent", "bandit", "96 of 192 conversations"),
    ("seed", "1", "48 of 192 conversations"),
    ("user", "moody", "96 of 192 conversations"),
    ("split", "ood_test", "96 of 192 conversations"),
    ("outcome", "success", "88 of 192 conversations"),  # echo 5 of 6 in 8 files, the learner 3 of 6 in 16
    ("outcome", "unscored", "32 of 192 conversations"),
    ("stop", "user_failed", "32 of 192 conversations"),
    ("budget", "tiny", "192 conversations"),
]


def test_every_filter_leaves_what_it_says(page):
    page.go("conversations")
    for name, value, left in FILTERED:
        page.choose(f"#filter-{name}", value)
        page.until(lambda left=left: count(page) == left)
        page.click("#clear")
        page.until(lambda: count(page) == "192 conversations")
        assert page.one(f"#filter-{name}").get_attribute("value") == ""


def test_profiles_are_filtered_by_attribute_and_value(page):
    page.go("conversations")
    assert not page.one("#filter-value").is_enabled()
    page.choose("#filter-attribute", "colour")
    page.choose("#filter-value", "green")
    page.until(lambda: count(page) == "64 of 192 conversations")  # two of six scenarios
    page.choose("#filter-world", "shop")
    page.until(lambda: count(page) == "32 of 192 conversations")
    page.choose("#filter-attribute", "mood")
    page.until(lambda: count(page) == "96 of 192 conversations")
    assert page.texts("#filter-value option") == ["anything", "calm", "cross"]


def test_a_world_leaves_the_choices_that_it_has(crowd):
    crowd.go("conversations")
    assert crowd.texts("#filter-user option") == ["all users", "moody", "plain", "stranger"]
    assert "learner_07" in crowd.texts("#filter-agent option")  # as tables write it
    crowd.choose("#filter-agent", "echo")
    crowd.choose("#filter-user", "moody")
    crowd.choose("#filter-world", "shop")
    assert crowd.texts("#filter-user option") == ["all users", "moody", "plain"]
    assert crowd.texts("#filter-agent option") == ["all agents", "always_red", "bandit", "echo"]
    crowd.until(lambda: count(crowd).startswith("12 of "))  # two splits of six scenarios
    crowd.choose("#filter-world", "fair")  # where nobody is moody
    assert crowd.texts("#filter-user option") == ["all users", "plain", "stranger"]
    assert [crowd.one(f"#filter-{name}").get_attribute("value") for name in ("user", "agent")] == ["", "echo"]
    crowd.until(lambda: count(crowd).startswith("24 of "))


def test_words_that_were_said_are_found_and_marked(page):
    page.go("conversations")
    page.one("#filter-text").send_keys("How about GREEN")
    page.until(lambda: count(page) == "48 of 192 conversations")  # scenarios 1 and 4; but bandit's 1 says another thing
    page.until(lambda: page.texts("#detail mark") == ["How about green"])
    page.one("#filter-text").send_keys(" nobody says this")
    page.until(lambda: count(page) == "0 of 192 conversations")
    assert "No conversation is like that." in page.text("#list")
    assert "loosen the filters" in page.text("#detail")


def test_the_list_is_walked_by_keyboard(page):
    page.go("conversations")
    listbox = page.one("#list")
    listbox.send_keys("j", "j", Keys.ARROW_DOWN, "k")
    page.until(lambda: listbox.get_attribute("aria-activedescendant") == "option-2")
    assert page.one("#option-2").get_attribute("aria-selected") == "true"
    listbox.send_keys(Keys.END)
    page.until(lambda: page.one("#option-191").is_displayed())
    assert page.one("#option-191").get_attribute("aria-posinset") == "192"
    listbox.send_keys(Keys.PAGE_UP, Keys.ARROW_UP)
    assert int(listbox.get_attribute("aria-activedescendant").removeprefix("option-")) < 185
    listbox.send_keys(Keys.HOME)
    page.until(lambda: listbox.get_attribute("aria-activedescendant") == "option-0")
    listbox.send_keys(Keys.ENTER)
    assert page.run("return document.activeElement.id") == "detail"
    assert len(page.all(".option")) < 60  # only what is in sight is there


def test_the_next_and_the_previous_conversation(page):
    page.go(f"conversations?world=shop&agent=bandit&id={FIRST}0")
    assert "scenario 0" in page.text("#detail")
    page.one("#next").send_keys(Keys.ENTER)
    page.until(lambda: "scenario 1" in page.text("#detail"))
    page.until(lambda: page.run("return document.activeElement.id") == "next")
    page.press(Keys.ENTER)
    page.until(lambda: "scenario 2" in page.text("#detail"))
    page.click("#previous")
    page.until(lambda: "scenario 1" in page.text("#detail"))
    page.click(".option", 0)
    page.until(lambda: "scenario 0" in page.text("#detail"))
    assert not page.one("#previous").is_enabled()


def test_what_an_agent_says_is_text_and_never_runs(page):
    page.go(f"conversations?id={FIRST}1")
    assert SCRIPT in page.texts("#detail .turn.agent .said")
    assert page.run("return [window.stolen, document.querySelectorAll('#detail script, #detail .said b').length]") == [
        None,
        0,
    ]
    page.one("#filter-text").send_keys("<b>bold")
    page.until(lambda: page.texts("#detail mark") == ["<b>bold"])


def test_rewards_values_and_the_end_are_shown(page):
    page.go(f"conversations?id={FIRST}0")
    assert page.texts("#detail .margin") == ["r 0.00V 0.25Q 0.75A 0.50", "r 1.00V 0.50Q –A –"]
    assert "Ended by outcome; price 2.50." in page.text("#detail .end")
    assert page.one('#detail svg[role="img"]').accessible_name == "The critic’s values over the conversation"
    page.go(f"conversations?id={FIRST}5")
    assert "unscored: timeout: no answer" in page.text("#detail .end")
    assert page.text("#detail .turn.agent:last-of-type .margin").startswith("r unscored")
    page.click("#detail .brief summary")
    assert page.one("#detail .brief p").text == "You sell colours."


def test_a_link_opens_its_conversation_and_keeps_its_filters(page):
    page.go(f"conversations?agent=bandit&outcome=success&id={FIRST}2")
    page.until(lambda: "scenario 2" in page.text("#detail .facts"))
    assert page.one("#filter-agent").get_attribute("value") == "bandit"
    page.one("#list").send_keys("j")
    page.until(lambda: "scenario 4" in page.text("#detail .facts"))
    page.until(lambda: "outcome=success" in page.driver.current_url and page.driver.current_url.endswith("%7C4"))
    page.click('nav a[data-view="notes"]')
    page.click('nav a[data-view="conversations"]')  # all is as it was left
    page.until(lambda: "outcome=success" in page.driver.current_url and "scenario 4" in page.text("#detail .facts"))
    page.run(
        "location.hash = arguments[0]", f"#conversations?world=elsewhere&id=elsewhere/{FIRST.removeprefix('shop/')}1"
    )
    page.until(lambda: "scenario 1" in page.text("#detail .facts") and count(page) == "96 of 192 conversations")
    page.go("conversations?id=gone")
    page.until(lambda: "The conversation gone is not on this page." in page.text("#detail"))


# ---- side by side ----------------------------------------------------------------------------------------------------


def names(page: Page) -> list[str]:
    return page.texts("#pair h2")


def pair(left: str = "shop/bandit/seed0", right: str = "shop/echo/seed0", scenario: int = 0) -> str:
    return f"compare?left={left}|plain-iid_test|{scenario}&right={right}|plain-iid_test|{scenario}"


def test_two_agents_are_laid_side_by_side_from_a_conversation(page):
    page.go(f"conversations?id={FIRST}1")
    page.choose("#beside", "shop/echo/seed0|plain-iid_test|1")
    page.click("#lay")
    page.until(lambda: names(page) == ["bandit", "echo"])
    openings = page.texts("#pair .turn.user:first-child .said")
    assert openings == ["Hello, I am number 1."] * 2
    page.click("#pair a")  # read alone
    page.until(lambda: page.one("#view-conversations").is_displayed() and "scenario 1" in page.text("#detail .facts"))


def test_the_pair_is_chosen_by_world_run_and_scenario(page):
    page.go(pair())
    page.pick("#pair-left", "always_red · seed 0")
    page.until(lambda: names(page) == ["always_red", "echo"])
    page.pick("#pair-right", "bandit · seed 1")
    page.until(lambda: names(page) == ["always_red", "bandit"])
    page.click("#pair-next")
    page.until(lambda: "scenario 1, 2 of 6" in page.text("#pair-bar"))
    assert page.run("return document.activeElement.id") == "pair-next"
    page.click("#pair-previous")
    page.until(lambda: "scenario 0, 1 of 6" in page.text("#pair-bar"))
    assert not page.one("#pair-previous").is_enabled()
    page.pick("#pair-world", "elsewhere · moody, ood_test")
    page.until(lambda: "elsewhere" in page.text("#pair") and "moody" in page.text("#pair"))
    assert len(set(names(page))) == 2


def test_pairs_are_labelled_by_button_and_by_key(page):
    page.go(pair())
    page.one("#note").send_keys("warmer")
    page.click("#label-left")  # and on to the next scenario
    page.until(lambda: "scenario 1" in page.text("#pair-bar"))
    for key, scenario in (("2", 2), ("3", 3), ("4", 4)):
        page.one("body").send_keys(key)
        page.until(lambda scenario=scenario: f"scenario {scenario}" in page.text("#pair-bar"))
    assert page.text("#label-count") == "4 pairs labelled: 1 left, 1 right, 1 tie, 1 skip"
    for key, scenario in (("p", 3), ("n", 4), ("p", 3), ("p", 2), ("p", 1), ("p", 0)):
        page.one("body").send_keys(key)
        page.until(lambda scenario=scenario: f"scenario {scenario}" in page.text("#pair-bar"))
    assert page.one("#label-left").get_attribute("aria-pressed") == "true"
    assert page.one("#note").get_attribute("value") == "warmer"
    page.go(pair(left="shop/echo/seed0", right="shop/bandit/seed0"))  # the same pair the other way round
    assert page.one("#label-right").get_attribute("aria-pressed") == "true"
    page.one("#note").send_keys("12 of 3")  # no label while one writes
    assert page.text("#label-count").startswith("4 pairs labelled")
    for button in ("#label-right", "#label-tie", "#label-skip"):
        page.go(pair())
        page.click(button)
        page.until(lambda: "scenario 1" in page.text("#pair-bar"))
    assert page.text("#label-count") == "4 pairs labelled: 1 right, 1 tie, 2 skip"


def saved(folder: Path, name: str, page: Page) -> list[dict]:
    path = folder / "downloads" / name
    page.until(path.is_file)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.unlink()
    return [json.loads(line) for line in lines]


def test_labels_are_downloaded_as_preference_data(page, folder):
    page.go(pair())
    page.one("#note").send_keys("no <b>reason</b>")
    page.click("#label-left")
    page.until(lambda: "scenario 1" in page.text("#pair-bar"))
    for key, scenario in (("2", 2), ("3", 3), ("4", 4)):
        page.one("body").send_keys(key)
        page.until(lambda scenario=scenario: f"scenario {scenario}" in page.text("#pair-bar"))
    page.click("#download-preferences")
    first, second = rows = saved(folder, "preferences.jsonl", page)
    assert "2 preferences; left out: 2 ties and skips." in page.text("#verdict")
    assert first["prompt"] == [
        {"role": "system", "content": "You sell colours."}, {"role": "user", "content": "Hello, I am number 0."},
    ]  # fmt: skip
    assert [one["role"] for one in first["chosen"]] == ["assistant", "user"] * 2
    assert first["chosen"][2]["content"] == "How about red, bandit asks."
    assert (first["chosen_id"], first["rejected_id"]) == (f"{FIRST}0", "shop/echo/seed0|plain-iid_test|0")
    assert (first["note"], first["blind"], first["world"], first["scenario"]) == ("no <b>reason</b>", False, "shop", 0)
    assert (second["chosen_agent"], second["rejected_agent"]) == ("echo", "bandit")
    assert (second["chosen_return"], second["rejected_return"]) == (1.0, 0.25)
    assert second["rejected"][2]["content"] == SCRIPT

    file = folder / "labels-again.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(read_dataset(file).labelled) == 2  # what learns from preferences reads them

    page.click("#download-labels")
    labels = saved(folder, "labels.jsonl", page)
    assert [one["label"] for one in labels] == ["left", "right", "tie", "skip"]
    assert set(labels[0]) == {"left", "right", "label", "note", "blind", "labelled_at"}


def test_labels_outlive_the_page_until_they_are_forgotten(page):
    page.go(pair())
    page.click("#label-tie")
    page.until(lambda: "scenario 1" in page.text("#pair-bar"))
    page.go(pair())
    assert page.text("#label-count") == "1 pair labelled: 1 tie"
    page.click("#clear-labels")
    page.driver.switch_to.alert.dismiss()
    assert page.text("#label-count") == "1 pair labelled: 1 tie"
    page.click("#clear-labels")
    page.driver.switch_to.alert.accept()
    page.until(lambda: page.text("#label-count") == "No pair is labelled yet.")
    assert not page.one("#download-preferences").is_enabled()


def test_blind_labelling_hides_who_spoke_and_how_it_went_until_it_is_done(page):
    page.go(pair())
    page.click("#blind")
    page.until(lambda: names(page) == ["Conversation A", "Conversation B"])
    assert not page.all("#pair-left") and not page.all("#pair-right")
    assert "bandit" not in page.driver.current_url
    shown = page.text("#pair")
    assert (
        "return" not in shown and "success" not in shown and "Ended by" not in shown and not page.all("#pair .margin")
    )
    said = [panel.text for panel in page.all("#pair .detail")]
    left = 0 if "bandit asks" in said[0] else 1
    page.click("#label-left")
    page.until(lambda: sorted(names(page)) == ["bandit", "echo"])
    assert names(page)[0] == ("bandit", "echo")[left]
    chosen = [Select(page.one(f"#pair-{side}")).first_selected_option.text for side in ("left", "right")]
    assert chosen == [{"bandit": "bandit · seed 0", "echo": "echo · seed 0"}[name] for name in names(page)]
    assert "bandit" in page.driver.current_url
    kept = json.loads(page.run("return localStorage.getItem('parley-labels')"))
    (one,) = kept.values()
    assert one["blind"] is True and one[one["label"]].split("/")[1] == names(page)[0]
    page.click("#label-tie")  # now that the names are known
    (one,) = json.loads(page.run("return localStorage.getItem('parley-labels')")).values()
    assert (one["label"], one["blind"]) == ("tie", False)
    page.go("compare")
    assert page.one("#blind").is_selected()  # also when the page is opened again


def test_while_hidden_the_sides_do_not_tell_which_way_the_pair_was_chosen(page):
    shown = []
    for one, other in (("bandit", "echo"), ("echo", "bandit")):
        page.run("localStorage.setItem('parley-blind', 'on')")
        page.go(pair(left=f"shop/{one}/seed0", right=f"shop/{other}/seed0"))
        page.until(lambda: names(page) == ["Conversation A", "Conversation B"])
        shown.append([panel.text for panel in page.all("#pair .detail")])
    assert shown[0] == shown[1]


def test_a_pair_that_can_not_be_laid_side_by_side_is_said(page):
    page.go("compare?left=gone&right=gone")
    assert "That pair is not on this page" in page.text("#verdict")


# ---- for everybody ---------------------------------------------------------------------------------------------------


def test_the_theme_follows_the_system_and_can_be_chosen(page):
    page.go("notes")
    theme = "return document.documentElement.dataset.theme"
    assert page.run(theme) == "light"
    page.media(prefers_color_scheme="dark")
    page.until(lambda: page.run(theme) == "dark")
    page.choose("#theme", "light")
    assert page.run(theme) == "light"
    page.go("notes")
    assert page.run(theme) == "light"  # it is remembered
    page.choose("#theme", "dark")
    assert page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"
    page.choose("#theme", "auto")
    assert page.run(theme) == "dark"


CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data;
};
const light = (colour) => [...colour].slice(0, 3).map((x) => x / 255)
  .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4))
  .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (let one = element; one; one = one.parentElement) {
    const colour = rgba(getComputedStyle(one).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return rgba("white");
};
const bad = [];
for (const element of document.querySelectorAll("body *")) {
  const words = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!words || !element.checkVisibility() || element.closest(":disabled, script")) continue;
  const style = getComputedStyle(element);
  const [a, b] = [light(rgba(element.closest("svg") ? style.fill : style.color)), light(behind(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) bad.push([element.textContent.slice(0, 30), ratio.toFixed(2), style.color]);
}
return bad;
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_has_a_contrast_of_at_least_four_and_a_half(page, theme):
    page.media(prefers_color_scheme=theme)
    for view in ("results", f"conversations?id={FIRST}0", pair(), "notes"):
        page.go(view)
        if view == "results":
            page.until(lambda: len(page.all(".matrix")) == 4)
            for button in range(3, 7):
                page.click("#section-shop-plain-tiny .leaderboard .choices button", button - 1)
        assert page.run(CONTRAST) == [], view


def test_on_a_phone_nothing_is_wider_than_the_screen(page):
    page.size(360, 740)
    for view in ("results", f"conversations?id={FIRST}1", pair(), "notes"):
        page.go(view)
        if view == "results":
            page.until(lambda: len(page.all(".matrix")) == 4)
        assert page.run("return document.documentElement.scrollWidth") <= 360, view
        page.run("scrollTo({left: 50, behavior: 'instant'})")
        assert page.run("return scrollX") == 0


def test_motion_is_left_out_where_it_is_not_wanted(page):
    page.go("notes")
    behaviour = "return getComputedStyle(document.documentElement).scrollBehavior"
    assert page.run(behaviour) == "smooth"
    page.media(prefers_reduced_motion="reduce")
    assert page.run(behaviour) == "auto"


STOPS = """
return [...document.querySelectorAll("a[href], button, select, input, summary, [tabindex='0']")]
  .filter((one) => one.checkVisibility() && !one.disabled).length;
"""
FOCUS = """
const one = document.activeElement;
if (one === document.body) return;
seen.add(one);
const style = getComputedStyle(one);
if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) unseen.push(one.outerHTML.slice(0, 80));
"""


@pytest.mark.parametrize("view", ["results", f"conversations?id={FIRST}0", "compare", "notes"])
def test_everything_is_reached_by_tab_and_seen_to_have_focus(page, view):
    page.go(view)
    if view == "results":
        page.choose("#pick-env", "shop")
        page.until(lambda: len(page.all("article.part")) == 1 and len(page.all(".matrix")) == 2)
        page.run("document.activeElement.blur(); getSelection().collapse(document.body, 0)")
    wanted = page.run(STOPS)
    page.run("window.seen = new Set(); window.unseen = []")
    for _ in range(wanted + 3):
        page.press(Keys.TAB)
        page.run(FOCUS)
    assert page.run("return [seen.size, unseen]") == [wanted, []]


@pytest.mark.parametrize("view", ["results", f"conversations?id={FIRST}0", "compare"])
def test_every_control_has_a_name(page, view):
    page.go(view)
    named = "button, select, input, [role=listbox], [role=region], svg[role=img]"
    controls = page.run("return [...document.querySelectorAll(arguments[0])].filter((x) => x.checkVisibility())", named)
    nameless = [one.get_attribute("outerHTML")[:80] for one in controls if not one.accessible_name.strip()]
    assert nameless == []


def test_the_way_past_the_masthead(page):
    page.go()
    page.press(Keys.TAB)
    assert page.run("return document.activeElement.id") == "skip" and page.one("#skip").is_displayed()
    page.press(Keys.ENTER)
    assert page.run("return document.activeElement.id") == "main"


# ---- split, and large ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [([], "packed for publishing leave them out"), (["--conversations", "0"], "of the 96 conversations of its runs")],
)
def test_a_page_without_conversations_says_why(driver, tmp_path, options, words):
    runs = write_runs(tmp_path / "runs", ["shop"])
    if not options:
        for folder in runs.rglob("trajectories"):
            shutil.rmtree(folder)
    assert report.main(["--runs", str(runs), "--out", str(tmp_path / "report.html"), "--no-plots", *options]) == 0
    driver.get((tmp_path / "report.html").as_uri())
    bare = Page(driver, tmp_path / "report.html")
    assert "0 conversations to read" in bare.text("#about")
    for view in ("conversations", "compare"):
        bare.go_bare(view)
        assert words in bare.text(f"#view-{view}") and not bare.all(f"#view-{view} select")


def test_a_page_that_was_split_reads_its_conversations_from_beside_it(page, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MAX_BYTES", 1000)
    out = tmp_path / "split.html"
    assert report.main(["--runs", str(folder / "runs"), "--out", str(out), "--no-plots"]) == 0
    split = Page(page.driver, out)
    split.go(f"conversations?id={FIRST}1")
    assert SCRIPT in split.texts("#detail .said")
    split.one("#filter-text").send_keys("number 4")
    split.until(lambda: count(split) == "32 of 192 conversations")
    shutil.rmtree(tmp_path / "split-conversations")
    split.driver.get("about:blank")
    split.driver.get(f"{split.url}#conversations")
    split.until(lambda: "must lie beside this file" in split.text("#detail"))
    assert all("ERR_FILE_NOT_FOUND" in line for line in page.complaints)


@pytest.mark.long
def test_twenty_thousand_conversations_fit_into_ten_megabytes_and_are_painted_in_two_seconds(driver, tmp_path):
    rng = np.random.default_rng(0)
    syllables = ["ba", "ke", "li", "mo", "nu", "ra", "sti", "ter", "vo", "zen"]
    words = np.array(["".join(rng.choice(syllables, rng.integers(1, 4))) for _ in range(600)])

    def talk(seed: int) -> Trajectory:
        """As long as a lesson: eight exchanges of about nine words each side."""
        said = [" ".join(rng.choice(words, rng.integers(5, 14))) for _ in range(16)]
        steps = tuple(Step(Utterance(said[2 * k]), said[2 * k + 1], float(k == 7)) for k in range(8))
        return Trajectory(seed, "A brief.", (Turn("user", "Hello."),), steps, True, "outcome", True, True)

    for run in range(10):
        folder = tmp_path / f"runs/{run}"
        write_run(folder, "bandit" if run else "echo", seed=run, scenarios=500)
        for path in sorted((folder / "trajectories").iterdir()):
            write_jsonl(path, [talk(seed) for seed in range(500)])
    out = tmp_path / "large.html"
    assert report.main(["--runs", str(tmp_path / "runs"), "--out", str(out), "--no-plots"]) == 0
    assert out.stat().st_size <= 10_000_000 and not (tmp_path / "large-conversations").exists()
    driver.get(out.as_uri())
    page = Page(driver, out)
    (paint,) = page.until(
        lambda: page.run("return performance.getEntriesByName('first-contentful-paint').map((one) => one.startTime)")
    )
    assert paint <= 2000
    page.go("conversations")
    assert count(page) == "20,000 conversations"
