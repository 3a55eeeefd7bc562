"""A page of another origin uses the API in a real browser, as a frontend would.

`browser/index.html` is shown as http://localhost:3000, which the API allows by default; the
browser is told that this is another port, so that the tests take none that somebody uses.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx2
import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import presence_of_element_located
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from tests.databases import execute
from tests.helpers import create_many, titles
from tests.servers import Server, free_port, serve
from tests.users import PASSWORD

PAGE = "localhost:3000"  # as the browser knows it
WAIT_TIMEOUT = 10.0  # seconds

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.skipif(
        not (CHROMIUM and CHROMEDRIVER),
        reason="needs a browser: apt-get install chromium chromium-driver",
    ),
    pytest.mark.first_on("sqlite"),
]


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves the folder of the page, and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Says nothing."""


@pytest.fixture(scope="module")
def page_port() -> Iterator[int]:
    """Where the page is served."""
    handler = partial(QuietHandler, directory=str(Path(__file__).parent / "browser"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as pages:
        Thread(target=pages.serve_forever, daemon=True).start()
        yield pages.server_port
        pages.shutdown()


@contextmanager
def run_chrome(profile: Path, page_port: int) -> Iterator[Chrome]:
    """Runs a browser without a window, which asks for nothing but our page and our API."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    options.set_capability("goog:loggingPrefs", {"browser": "WARNING"})
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        *(f"user-data-dir={profile}", f"host-resolver-rules=MAP {PAGE} 127.0.0.1:{page_port}"),
    ):
        options.add_argument(f"--{flag}")
    with Chrome(options, ChromeService(CHROMEDRIVER)) as chrome:
        yield chrome


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory, page_port: int) -> Iterator[Chrome]:
    """The browser of all tests."""
    with run_chrome(tmp_path_factory.mktemp("chromium"), page_port) as chrome:
        yield chrome


def errors_in(chrome: Chrome) -> list[str]:
    """Returns what the console has noted.

    Chromium itself notes every 4xx; that the page could read it shows in what it displays.
    """
    noted = re.compile(r"the server responded with a status of 4\d\d")
    messages = [line["message"] for line in chrome.execute("getLog", {"type": "browser"})["value"]]
    return [message for message in messages if not noted.search(message)]


class Page:
    """What a person sees on the page and does there; each action ends when the page is idle."""

    def __init__(self, chrome: Chrome) -> None:
        self.chrome = chrome

    def open(self, url: str) -> None:
        self.chrome.get(url)
        self.wait()

    def add(self, title: str) -> None:
        self.type(title, into="#new input")
        self.press("Add")

    def sign(self, button: str, name: str, password: str = PASSWORD) -> None:
        self.type(name, into="[name=username]")
        self.type(password, into="[name=password]")
        self.press(button)

    def edit(self, title: str) -> None:
        self.press("Edit", title)

    def save(self, title: str) -> None:
        self.type(title, into="li form input")
        self.press("Save")

    def toggle(self, title: str) -> None:
        self.click(f"//li[span='{title}']/input")

    def press(self, button: str, title: str | None = None) -> None:
        item = f"//li[span='{title}']" if title else ""
        self.click(f"{item}//button[.='{button}']")

    def show(self, status: str) -> None:
        Select(self.chrome.find_element(By.CSS_SELECTOR, "select")).select_by_visible_text(status)
        self.wait()

    def type(self, text: str, into: str) -> None:
        field = self.chrome.find_element(By.CSS_SELECTOR, into)
        field.clear()
        field.send_keys(text)

    def click(self, xpath: str) -> None:
        self.chrome.find_element(By.XPATH, xpath).click()
        self.wait()

    def wait(self) -> None:
        idle = (By.CSS_SELECTOR, "body[aria-busy=false]")
        WebDriverWait(self.chrome, WAIT_TIMEOUT, 0.02).until(presence_of_element_located(idle))

    @property
    def titles(self) -> list[str]:
        return self.texts("li span")

    @property
    def completed(self) -> list[str]:
        return self.texts("li input:checked + span")

    @property
    def count(self) -> str:
        return self.texts("output")[0]

    @property
    def user(self) -> str:
        return self.texts("#me b")[0]

    @property
    def error(self) -> str:
        return self.texts("[role=alert]")[0]

    def texts(self, selector: str) -> list[str]:
        return [each.text for each in self.chrome.find_elements(By.CSS_SELECTOR, selector)]


@pytest.fixture
def page(chrome: Chrome, server: Server, client: httpx2.Client) -> Iterator[Page]:
    """The page, using the API that has no todos yet; its console must stay free of errors."""
    page = Page(chrome)
    page.open(f"http://{PAGE}/?api={server.base_url}")
    yield page
    assert errors_in(chrome) == []


def test_page_adds_todos_and_follows_location(page: Page, chrome: Chrome) -> None:
    page.add("Buy milk")
    page.add("  Wash up  ")
    assert page.titles == ["Buy milk", "Wash up"]
    assert page.error == ""
    assert chrome.title == "Added: Wash up"


def test_page_toggles_filters_and_clears(page: Page) -> None:
    for title in ("Buy milk", "Wash up"):
        page.add(title)
    page.toggle("Buy milk")
    assert page.completed == ["Buy milk"]
    page.show("active")
    assert page.titles == ["Wash up"]
    page.show("completed")
    assert page.titles == ["Buy milk"]
    page.press("Clear completed")
    page.show("all")
    assert page.titles == ["Wash up"]


def test_page_edits_and_deletes(page: Page) -> None:
    page.add("Buy milk")
    page.edit("Buy milk")
    page.save("Buy oat milk")
    assert page.titles == ["Buy oat milk"]
    page.press("Delete", "Buy oat milk")
    assert page.titles == []
    assert page.error == ""


def test_page_reads_total_and_link(page: Page, client: httpx2.Client) -> None:
    create_many(client, "a", "b", "c", "d")
    page.show("active")
    assert (page.titles, page.count) == (["a", "b", "c"], "3 of 4")
    page.press("More")
    assert (page.titles, page.count) == (["a", "b", "c", "d"], "4 of 4")


def test_page_edit_of_a_changed_todo_shows_why_not(page: Page, client: httpx2.Client) -> None:
    page.add("Buy milk")
    page.edit("Buy milk")
    [todo] = client.get("/api/todos").json()
    client.patch(f"/api/todos/{todo['id']}", json={"title": "Buy bread"})
    page.save("Buy oat milk")
    assert page.error == "The todo has changed since you read it"
    assert titles(client) == ["Buy bread"]


def test_page_shows_what_is_invalid(page: Page, client: httpx2.Client) -> None:
    page.add(" ")
    assert page.error == "body.title: String should have at least 1 character"
    assert titles(client) == []


def test_page_shows_that_a_todo_is_gone(page: Page, client: httpx2.Client) -> None:
    page.add("Buy milk")
    client.delete("/api/todos", params={"status": "active"})
    page.toggle("Buy milk")
    assert page.error == "Todo not found"


def test_page_shows_to_each_user_their_own_todos(
    page: Page, page_port: int, server: Server, client: httpx2.Client, tmp_path: Path
) -> None:
    create_many(client, "shared")
    page.open(page.chrome.current_url)
    with run_chrome(tmp_path / "another person's", page_port) as another:
        other = Page(another)
        other.open(f"http://{PAGE}/?api={server.base_url}")
        for each, name in ((page, "ada"), (other, "bob")):
            assert (each.user, each.titles) == ("", ["shared"])
            each.sign("Sign up", name)
            assert (each.user, each.titles, each.error) == (name, [], "")
            each.add(f"of {name}")
        for each, name in ((page, "ada"), (other, "bob")):
            each.show("active")
            assert each.titles == [f"of {name}"]
            each.toggle(f"of {name}")
            each.press("Clear completed")
            each.show("all")
            each.add(f"new of {name}")
        page.press("Sign out")
        assert (page.user, page.titles) == ("", ["shared"])
        page.sign("Sign in", "ADA")
        assert (page.user, page.titles) == ("ada", ["new of ada"])
        other.show("active")
        assert (other.user, other.titles) == ("bob", ["new of bob"])
        assert errors_in(another) == []


def test_page_says_why_one_is_not_signed_in_or_not_any_more(
    page: Page, server: Server, client: httpx2.Client
) -> None:
    create_many(client, "shared")
    page.sign("Sign in", "ada")
    assert page.error == "The user name or the password is wrong"
    page.sign("Sign up", "ada")
    page.press("Sign out")
    page.sign("Sign up", "ada")
    assert page.error.endswith("already exists")
    page.sign("Sign in", "ada")
    assert (page.user, page.error) == ("ada", "")
    execute(server.database_url, "DELETE FROM users")
    page.add("Buy milk")
    assert page.error == "The token does not hold; sign in again"
    page.show("active")
    assert page.titles == ["shared"]


@pytest.fixture
def two_windows(chrome: Chrome) -> Iterator[list[str]]:
    """Two windows of the browser."""
    first = chrome.current_window_handle
    chrome.switch_to.new_window("window")
    second = chrome.current_window_handle
    yield [first, second]
    chrome.switch_to.window(second)
    chrome.close()
    chrome.switch_to.window(first)


@pytest.mark.slow
def test_two_pages_show_the_same_at_once_and_after_a_restart(
    chrome: Chrome, two_windows: list[str], tmp_path: Path
) -> None:
    url, port = f"sqlite:///{tmp_path}/todos.db", free_port()
    page = Page(chrome)

    def wait_for(window: str, shown: list[str], completed: list[str], within: float = 1.0) -> None:
        chrome.switch_to.window(window)
        WebDriverWait(chrome, within, 0.02, (StaleElementReferenceException,)).until(
            lambda _: page.titles == shown and page.completed == completed
        )

    def add(window: str, title: str) -> None:
        chrome.switch_to.window(window)
        page.type(title, into="form input")
        chrome.find_element(By.CSS_SELECTOR, "form button").click()

    first, second = two_windows
    with serve(url, tmp_path / "first.log", port=port) as server:
        for window in two_windows:
            chrome.switch_to.window(window)
            chrome.get(f"http://{PAGE}/live.html?api={server.base_url}")
        WebDriverWait(chrome, WAIT_TIMEOUT, 0.02).until(lambda _: page.count == "2")
        add(first, "Buy milk")
        wait_for(second, ["Buy milk"], [])
        chrome.find_element(By.XPATH, "//li[span='Buy milk']/input").click()
        wait_for(first, ["Buy milk"], ["Buy milk"])
    with serve(url, tmp_path / "second.log", port=port) as server, server.client() as client:
        create_many(client, "Wash up")
        for window in two_windows:
            wait_for(window, ["Buy milk", "Wash up"], ["Buy milk"], within=WAIT_TIMEOUT)
        add(second, "Sleep")
        wait_for(first, ["Buy milk", "Wash up", "Sleep"], ["Buy milk"])
    # Chromium itself notes that nobody listened for a while.
    noted = re.compile(r"net::ERR_CONNECTION_RE|WebSocket connection to .* failed")
    console = chrome.execute("getLog", {"type": "browser"})["value"]
    assert [line for line in console if not noted.search(line["message"])] == []
