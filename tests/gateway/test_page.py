"""The gateway's page in a real browser: what it shows, how it is used, what it costs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finx_sync.gateway import Gateway
from finx_sync.sandbox import Sandbox
from tests.gateway.browser import Page, browser, find_browser
from tests.gateway.feed import PAGE, FeedServer
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(find_browser() is None, reason="no Chromium on the PATH (Debian: apt install chromium)"),
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("browser"),
]

MISSING = "\N{EN DASH}"
SIZE_LIMIT = 150_000
"""Bytes of all that a browser may load."""
PERPETUAL = "BTC-PERPETUAL"
STRIKES = (20_000, 22_000, 24_000)
OPTIONS = [f"BTC-{expiry}-{strike}-{side}" for expiry in ("25DEC40", "25JAN41") for strike in STRIKES for side in "CP"]
CONTRACTS = [PERPETUAL, "ETH-PERPETUAL", *OPTIONS]
TAGS = [*(f"contract:{name}" for name in CONTRACTS), "spot:BTC:USD", "spot:ETH:USD"]


def contract(name: str, mark: float | str = 22_000, **other: Any) -> dict[str, str]:
    """A contract's payload, all text as FinX sends it."""
    values = {
        "redis_key": name, "underlying_price": 22_100, "timestamp": 1_700_000_000_000, "mark_price": mark,
        "mark_iv": "", "best_bid_price": "", "best_ask_price": "", "instrument_name": name,
    }  # fmt: skip
    if name in OPTIONS:
        strike = int(name.split("-")[2])
        mark = 0.05 + (22_000 - strike) / 100_000 if mark == 22_000 else mark
        values |= {
            "mark_price": mark, "mark_iv": 60 + abs(strike - 22_000) / 500, "best_bid_price": 0.0995,
            "best_ask_price": 0.1005, "delta": 0.51234, "gamma": 0.00021, "theta": -41.237, "vega": 12.5,
        }  # fmt: skip
    return {key: str(value) for key, value in (values | other).items()}


def spot(pair: str, price: float, exchange: str = "KRAKEN") -> dict[str, str]:
    """A spot payload."""
    return {"pair": pair, "unixDate": "1700000000", "UTCDate": "", "exchange": exchange, "price": str(price)}


def value(tag: str) -> dict[str, str]:
    """The first payload of a tag."""
    kind, _, name = tag.partition(":")
    return contract(name) if kind == "contract" else spot(name, 22_000)


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    """One browser for all tests of this module; every feed has a port, and so a storage, of its own."""
    folder = Path(tempfile.mkdtemp(prefix="page"))
    with browser(folder) as page:
        yield page
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def feed() -> Iterator[FeedServer]:
    """A feed of a few contracts and two pairs."""
    with FeedServer(TAGS, value) as server:
        yield server


@pytest.fixture
def page(tab: Page, feed: FeedServer) -> Iterator[Page]:
    """The page, with its first rows filled; no complaint of the browser's is accepted at the end."""
    tab.size(1440, 900)
    tab.problems.clear()
    tab.open(feed.url)
    tab.wait(f"{cell(PERPETUAL, 'mark')}.endsWith('22,000')")
    yield tab
    assert tab.problems == []
    tab.open("about:blank")


def row(name: str) -> str:
    """Script: a contract's row."""
    return f"document.querySelector('#contracts tr[data-name=\"{name}\"]')"


def cell(name: str, column: str) -> str:
    """Script: a cell's text."""
    return f"{row(name)}.querySelector('[data-column={column}]').textContent"


def text(selector: str) -> str:
    """Script: an element's text."""
    return f"document.querySelector('{selector}').textContent"


NAMES = "[...document.querySelectorAll('#contracts tbody tr:not([hidden])')].map((one) => one.dataset.name).join(' ')"


def test_everything_is_small_and_from_here(page: Page, feed: FeedServer) -> None:
    """A page that loads from elsewhere fails in a closed network, and a large one on a phone."""
    files = [one for one in PAGE.iterdir() if one.suffix != ".txt"]
    assert sum(one.stat().st_size for one in files) <= SIZE_LIMIT
    assert {f"/page/{one.name}" for one in files} - {"/page/index.html", "/page/icon.svg"} <= set(feed.requests)
    loaded = page.run("performance.getEntriesByType('resource').map((one) => one.name)")
    assert all(one.startswith(feed.url) for one in loaded)


def test_it_shows_what_comes(page: Page, feed: FeedServer) -> None:
    """The prices on the screen would not be those of the feed."""
    assert page.run(text("#feed")) == "finx · sandbox"
    page.wait(f"{text('#state')} === 'Live'")
    page.wait(f"{row(OPTIONS[2])} !== null")  # at the money, so watched from the beginning
    page.wait(f"{cell(OPTIONS[2], 'iv')} === '60.00'")
    shown = {
        one: page.run(cell(OPTIONS[2], one))
        for one in ("mark", "bid", "ask", "spread", "delta", "gamma", "theta", "vega")
    }
    assert shown == {
        "mark": "0.0500", "bid": "0.0995", "ask": "0.1005", "spread": "1.00 %", "delta": "0.512", "gamma": "0.00021",
        "theta": "\N{MINUS SIGN}41.24", "vega": "12.50",
    }  # fmt: skip
    feed.send(f"contract:{PERPETUAL}", contract(PERPETUAL, 22_001.5))
    page.wait(f"{cell(PERPETUAL, 'mark')} === '▲22,001.5'")
    feed.send(f"contract:{PERPETUAL}", contract(PERPETUAL, 21_999))
    page.wait(f"{cell(PERPETUAL, 'mark')} === '▼21,999.0'")
    feed.send("spot:BTC:USD", spot("BTC:USD", 22_010.25))
    page.wait(f"{text('.tile .figure')} === '▲22,010.25'")
    page.wait("document.querySelectorAll('.tile canvas').length === 2")
    page.wait("document.querySelector('#smile canvas') !== null")
    assert "At the money: 25DEC40 60.0 percent, 25JAN41 60.0 percent" in page.wait(
        "document.querySelector('#smile .chart').getAttribute('aria-label').includes('60.0')"
        " && document.querySelector('#smile .chart').getAttribute('aria-label')"
    )


def test_a_value_that_is_missing_is_a_dash(page: Page, feed: FeedServer) -> None:
    """A zero or "NaN" would be taken for a price."""
    feed.send(f"contract:{PERPETUAL}", contract(PERPETUAL, "", best_bid_price="0", delta="nan"))
    page.wait(f"{cell(PERPETUAL, 'mark')} === '{MISSING}'")
    assert [page.run(cell(PERPETUAL, one)) for one in ("bid", "spread", "iv", "delta")] == [MISSING] * 4


def test_text_from_the_feed_is_text(page: Page, feed: FeedServer) -> None:
    """A name with markup would run as a script in everyone's browser."""
    evil = "<img src=x onerror=alert(1)>"
    feed.tell(gap={"start": 1e9, "end": 1e9, "names": [evil], "reason": evil, "missed": 1})
    feed.tell(error=evil)
    page.wait(f"{text('#gaps ol')}.includes('onerror') && {text('#notice')}.includes('onerror')")
    assert page.run("document.querySelector('main img, #notice img')") is None


def test_the_chain_is_by_expiry(page: Page) -> None:
    """Strikes of another expiry, or calls where puts belong, would be read as quotes."""
    strikes = "[...document.querySelectorAll('#chain tbody th')].map((one) => one.textContent).join(' ')"
    assert page.run(strikes) == "20,000 22,000 24,000"
    page.wait("document.querySelector('#chain tr[data-nearest=true] th')?.textContent === '22,000'")
    assert page.run("document.querySelector('#chain tbody tr').dataset.money") == "call"
    page.run("document.querySelector('#chain').scrollIntoView()")
    page.wait("document.querySelector('#chain tbody tr td.C[data-column=mark]').textContent === '0.0700'")
    page.run("document.querySelector('.expiries input[value=\"25JAN41\"]').click()")
    watch = "document.querySelector('#chain tbody td.P .watch')"
    assert page.run(f"{watch}.getAttribute('aria-label')") == "Watch BTC-25JAN41-20000-P"
    page.run(f"{watch}.click()")
    page.wait(f"{row('BTC-25JAN41-20000-P')} !== null && {watch}.getAttribute('aria-pressed') === 'true'")


def test_a_gap_is_told_in_words(page: Page, feed: FeedServer) -> None:
    """Somebody would trade on a picture with a hole in it."""
    page.run("document.querySelector('#announcer').replaceChildren()")
    assert page.run("document.querySelector('#gaps .empty').hidden") is False
    feed.tell(
        gap={
            "start": 1_700_000_000,
            "end": 1_700_000_004.5,
            "names": [PERPETUAL, "ETH-PERPETUAL", "X"],
            "reason": "relay lost",
            "missed": 1284,
        }
    )
    told = f"1,284 messages of {PERPETUAL}, ETH-PERPETUAL and 1 other are missing: a relay was lost."
    page.wait(f"{text('#gaps ol')}.includes('{told}')")
    assert page.run(text("#gaps .when")) == f"22:13:20 {MISSING} 22:13:244.5 s"
    page.wait(f"{text('#gap-count')} === '1'")
    page.wait(f"{text('#announcer')}.includes('{told}')")


def test_only_news_is_read_aloud(page: Page, feed: FeedServer) -> None:
    """A screen reader would read ticks for ever, or be silent when the feed stops."""
    page.run("document.querySelector('#announcer').replaceChildren()")
    for number in range(20):
        feed.send(f"contract:{PERPETUAL}", contract(PERPETUAL, 22_100 + number))
    page.wait(f"{cell(PERPETUAL, 'mark')}.endsWith('22,119')")
    assert page.run(text("#announcer")) == ""
    live = page.run(
        "[...document.querySelectorAll('[aria-live], [role=alert], [role=status], [role=log]')].map((one) => one.id)"
    )
    assert sorted(live) == ["add-message", "announcer", "notice"]
    feed.tell(state={"live": False, "why": "Redis does not answer"})
    page.wait(f"{text('#state')} === 'Interrupted'")
    page.wait(f"{text('#announcer')}.includes('Interrupted. The feed: Redis does not answer.')")


def test_filter(page: Page) -> None:
    """What one looks for would be lost among the rows."""
    page.wait(f"{NAMES}.split(' ').length > 4")
    page.run("document.body.focus()")
    page.press("/", 191, "/")
    page.wait("document.activeElement.id === 'filter'")
    page.type("eth perp")
    page.wait(f"{NAMES} === 'ETH-PERPETUAL'")
    page.press("Escape", 27)
    page.wait(f"{NAMES}.split(' ').length > 4")
    page.type("nothing like this")
    page.wait("!document.querySelector('#contracts .empty').hidden")
    page.press("Escape", 27)


def test_sort_by_keyboard(page: Page, feed: FeedServer) -> None:
    """Who uses no mouse could not sort."""
    feed.send("contract:ETH-PERPETUAL", contract("ETH-PERPETUAL", 1_600))
    page.wait(f"{cell('ETH-PERPETUAL', 'mark')}.endsWith('1,600')")
    heading = "document.querySelector('#contracts th[data-column=mark]')"
    page.run(f"{heading}.querySelector('button').focus()")
    page.press("Enter", 13, "\r")
    page.wait(f"{heading}.getAttribute('aria-sort') === 'descending'")
    names = page.run(NAMES).split()
    assert names[:2] == [PERPETUAL, "ETH-PERPETUAL"]
    page.press(" ", 32, " ")
    page.wait(f"{heading}.getAttribute('aria-sort') === 'ascending'")
    assert page.run(NAMES).split()[-2:] == ["ETH-PERPETUAL", PERPETUAL]
    assert page.run("document.querySelectorAll('#contracts [aria-sort]').length") == 1


def test_rows_by_keyboard(page: Page) -> None:
    """Who uses no mouse could not reach or remove a row, and removing would throw the focus away."""
    page.wait(f"{row(OPTIONS[2])} !== null")
    first, second, *_ = page.run(NAMES).split()
    assert page.run("document.querySelectorAll('#contracts tbody button[tabindex=\"0\"]').length") == 1
    page.run("document.querySelector('#filter').focus()")
    focused = "document.activeElement.closest('tr')?.dataset.name"
    page.press("ArrowDown", 40)
    page.wait(f"{focused} === '{first}'")
    page.press("ArrowDown", 40)
    page.wait(f"{focused} === '{second}'")
    page.press("Delete", 46)
    page.wait(f"{row(second)} === null")
    assert page.run(focused) == page.run(NAMES).split()[1]


def test_add_by_name_or_pattern(page: Page, feed: FeedServer) -> None:
    """A mistyped name would be watched for ever without a value."""
    assert page.run("document.querySelector('#contract-names').options.length") == len(CONTRACTS)

    def add(typed: str) -> None:
        page.run("document.querySelector('#add').focus(); document.querySelector('#add').select()")
        page.type(typed)
        page.press("Enter", 13, "\r")

    add("btc-25jan41-24000-c")
    page.wait(f"{cell('BTC-25JAN41-24000-C', 'iv')} === '64.00'")
    add("BTC-PERPETUL")
    page.wait(f"{text('#add-message')} === 'The feed has no BTC-PERPETUL. Did you mean BTC-PERPETUAL?'")
    assert page.run("document.querySelector('#add').getAttribute('aria-invalid')") == "true"
    add("BTC-25JAN41-*")
    page.wait(f"{NAMES}.split(' ').filter((name) => name.includes('25JAN41')).length === 6")
    page.open(feed.url)  # it is remembered
    page.wait(f"{NAMES}.split(' ').filter((name) => name.includes('25JAN41')).length === 6")


def test_only_what_is_shown_is_subscribed(page: Page, feed: FeedServer) -> None:
    """A phone would be sent the whole market."""
    page.wait(f"{row(OPTIONS[2])} !== null")
    page.run("for (const one of document.querySelectorAll('#chain, #smile')) one.remove()")
    page.run(f"{row('ETH-PERPETUAL')}.querySelector('.remove').click()")
    page.run("document.querySelector('#spots input').click()")
    assert wait_until(lambda: not feed.subscribed & {"contract:ETH-PERPETUAL", "spot:BTC:USD"})
    assert f"contract:{PERPETUAL}" in feed.subscribed


def test_it_comes_back_after_a_cut(page: Page, feed: FeedServer) -> None:
    """A page that was left open over night would show yesterday's prices as today's."""
    feed.send(f"contract:{PERPETUAL}", contract(PERPETUAL, 22_500))
    page.wait(f"{cell(PERPETUAL, 'mark')}.endsWith('22,500')")
    feed.cut()
    assert wait_until(lambda: feed.resumed[-1] and f"contract:{PERPETUAL}" in feed.subscribed, 20)
    term, _, offset = str(feed.resumed[-1]).partition("-")
    assert (term, int(offset) > 0) == ("1700000000000", True)
    page.wait(f"{text('#state')} === 'Live'")
    feed.send(f"contract:{PERPETUAL}", contract(PERPETUAL, 22_600))
    page.wait(f"{cell(PERPETUAL, 'mark')}.endsWith('22,600')")
    assert page.run(text("#announcer")).count("Disconnected") == 1


def test_a_key_is_asked_for_and_kept_out_of_the_address(tab: Page) -> None:
    """A key in the address is read over a shoulder, bookmarked and logged."""
    tab.size(1440, 900)
    with FeedServer(TAGS, value, key="sandbox-key") as feed:
        tab.open(feed.url)
        tab.wait("document.querySelector('#key-dialog').open")
        tab.run("document.querySelector('#key').focus()")
        tab.type("sandbox-key")
        tab.press("Enter", 13, "\r")
        tab.wait(f"{cell(PERPETUAL, 'mark')}.endsWith('22,000')")
        tab.run("sessionStorage.clear()")
        tab.open(f"{feed.url}?key=sandbox-key")
        tab.wait(f"{cell(PERPETUAL, 'mark')}.endsWith('22,000')")
        assert tab.run("location.search") == ""
        tab.open("about:blank")
    tab.problems.clear()  # the refusal that was provoked is in the browser's log


def test_themes(page: Page) -> None:
    """Text would be dark on dark."""
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.run(background)
    page.run("document.querySelector('#theme').click()")  # light
    page.run("document.querySelector('#theme').click()")  # dark
    dark = page.run(background)
    assert light != dark
    page.run("document.querySelector('#theme').click()")  # the system's again
    page.size(1440, 900, dark=True)
    page.wait(f"{background} === '{dark}'")
    page.size(1440, 900)


CONTRAST = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const luminance = (layers) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); }
    const [red, green, blue] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const isShown = element.checkVisibility({visibilityProperty: true, opacityProperty: true});
    if (!walker.currentNode.data.trim() || !isShown) continue;
    if (element.closest('.visually-hidden, script, style, datalist')) continue;
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.unshift(getComputedStyle(one).backgroundColor);
    const back = luminance(layers);
    const front = luminance([...layers, getComputedStyle(element).color]);
    const ratio = (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
    if (ratio < 4.5) poor.push(`${walker.currentNode.data} ${ratio.toFixed(2)}`);
  }
  return poor;
})()"""


def test_with_the_gateway_itself(tab: Page) -> None:
    """The page and the gateway would speak two protocols."""
    tab.size(1440, 900)
    with (
        Sandbox(contract_interval=0.1, spot_interval=0.1) as sandbox,
        Gateway("sandbox", url=sandbox.url, api_key="sandbox-key") as gateway,
    ):
        tab.problems.clear()
        tab.open(gateway.url)
        tab.wait(f"{cell(PERPETUAL, 'mark')}.length > 5")
        tab.wait(f"{NAMES}.includes('-C') && {text('#state')} === 'Live'")
        tab.wait("document.querySelectorAll('.tile canvas').length === 3")
        tab.wait(f"{text('#clients')} === '1'")
        sandbox.abort_all()
        tab.wait(f"{text('#gaps ol')}.includes('the connection was lost')")
        tab.wait(f"{text('#state')} === 'Live'")
        assert tab.problems == []
        tab.open("about:blank")


@pytest.mark.parametrize("dark", [False, True])
def test_contrast(page: Page, feed: FeedServer, dark: bool) -> None:
    """Text under 4.5 : 1 cannot be read by many (WCAG 2, AA)."""
    feed.tell(gap={"start": 1e9, "end": 1e9, "names": [PERPETUAL], "reason": "server", "missed": 1})
    feed.send(f"contract:{PERPETUAL}", contract(PERPETUAL, 22_500))
    page.size(1440, 900, dark=dark)
    page.wait(f"{text('#gaps ol')}.includes('missing')")
    assert page.run(CONTRAST) == []


@pytest.mark.parametrize("width", [360, 768, 1440, 3840])
def test_nothing_hangs_over_the_edge(page: Page, width: int) -> None:
    """A phone would scroll the whole page sideways."""
    page.size(width, 900, is_phone=width < 700)
    page.wait("document.querySelector('#chain tbody tr') !== null")
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.run(
        "[...document.querySelectorAll('.panel, .tiles')]"
        ".every((one) => one.getBoundingClientRect().right <= innerWidth)"
    )


def test_every_control_has_a_name(page: Page) -> None:
    """A screen reader would say "button" and no more."""
    tree = page.send("Accessibility.getFullAXTree")["nodes"]
    controls = {"button", "textbox", "searchbox", "combobox", "radio", "checkbox", "region", "table", "image", "group"}
    nameless = [
        page.send("DOM.describeNode", backendNodeId=one["backendDOMNodeId"])["node"]["attributes"]
        for one in tree
        if not one.get("ignored")
        and one.get("role", {}).get("value") in controls
        and not one.get("name", {}).get("value")
    ]
    assert nameless == []
    headings = "[...document.querySelectorAll('h1, h2, h3')].filter((one) => !one.closest('dialog'))"
    assert page.run(f"{headings}.map((one) => one.tagName).join(' ')") == "H1 H2 H3 H3 H2 H2 H2 H2"


def test_hidden_it_paints_nothing(page: Page, feed: FeedServer) -> None:
    """A page in a background tab would warm the room."""
    page.run("Object.defineProperty(document, 'hidden', {configurable: true, get: () => window.away})")
    page.run("window.away = true; document.dispatchEvent(new Event('visibilitychange'))")
    page.run("new Promise((done) => setTimeout(done, 400))")
    watched = "window.writes = 0; new MutationObserver((all) => window.writes += all.length)"
    page.run(f"{watched}.observe(document.body, {{subtree: true, childList: true, characterData: true}}); 0")
    for number in range(10):
        feed.send(f"contract:{PERPETUAL}", contract(PERPETUAL, 23_000 + number))
    page.run("new Promise((done) => setTimeout(done, 400))")
    assert page.run("window.writes") == 0
    page.run("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    page.wait(f"{cell(PERPETUAL, 'mark')}.endsWith('23,009')")


MEASURE = """new Promise((done) => {
  let writes = 0;
  const observer = new MutationObserver((all) => writes += all.length);
  observer.observe(document.body, {subtree: true, characterData: true, childList: true});
  let frames = 0;
  const count = () => { frames++; requestAnimationFrame(count); };
  requestAnimationFrame(count);
  setTimeout(() => { observer.disconnect(); done({writes, frames}); }, 4000);
})"""


def test_a_flood_is_painted_and_not_drowned_in(page: Page, feed: FeedServer) -> None:
    """At 5,000 messages a second the page would freeze, or grow until the tab dies.

    What the page does is counted, not timed: text is written at most ten times a second a cell, however many messages
    come, and after a second burst the heap is what it was after the first.
    """
    page.wait(f"{row(OPTIONS[2])} !== null")
    feed.flood(5000)
    page.run("new Promise((done) => setTimeout(done, 2000))")  # what grows at first: points, caches
    before, sent = page.heap(), feed.messages
    measured = page.run(MEASURE)
    arrived = feed.messages - sent
    grown = page.heap() - before
    feed.flood(0)
    cells = page.run("document.querySelectorAll('td, th, dd, p').length")
    assert arrived > 2000, "the server was too slow for this to say anything"
    assert measured["writes"] < cells * 50
    assert measured["frames"] > 20, "the page's own thread was held up"
    assert grown < 1_000_000
    page.wait(f"{text('#state')} === 'Live'")


def test_the_newest_wins_after_a_flood(page: Page, feed: FeedServer) -> None:
    """The last price of a burst would be one that was skipped."""
    for number in range(500):
        feed.send(f"contract:{PERPETUAL}", contract(PERPETUAL, 22_000 + number))
    page.wait(f"{cell(PERPETUAL, 'mark')}.endsWith('22,499')")
