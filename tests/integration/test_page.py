"""
The status page in a real browser.

Chromium is Debian's; playwright drives it. Where either is missing the tests are
skipped. Most run against a stand-in for the balancer, which can say anything; the last
ones against a real balancer.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration import pageserver
from tests.integration.conftest import Balancers, Serve
from tests.integration.pageserver import PageServer, ago, destination, pool, status
from tests.integration.programs import LIMIT, connect, freePort, readAll

BIDI = "\u202eevil<img src=x onerror=alert(1)>\"'&"
"""
A name that would be a fault in a page that took it for anything but text.
"""

REFUSED = "Connection was refused by other side: 111: Connection refused."

Open = Callable[..., Any]


@pytest.fixture
def admin() -> Iterator[PageServer]:
    """
    A stand-in for the balancer, which has two destinations up and one down.
    """
    fake = PageServer()
    fake.status = usual()
    fake.start()
    yield fake
    fake.stop()


def usual(**others: Any) -> dict[str, Any]:
    """
    Return a status of a balancer under load.
    """
    return status(
        pool(
            "web",
            destination("web", "a", active=4, served=1234567),
            destination("web", "b", active=2, served=99, bytesOut=5_000_000),
            destination(*("web", "c"), state="down", why=REFUSED, errors=7),
            waiting=3,
            oldestWait=2.5,
        ),
        **others,
    )


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """
    Opens a page, and checks after the test that the browser has complained of nothing.
    """
    contexts = []
    complaints: list[str] = []

    def opened(url: str, allowed: str = "(?!)", **options: Any) -> Any:
        context = chromium.new_context(**options)
        context.set_default_timeout(LIMIT * 1000)
        contexts.append(context)
        page = context.new_page()

        def complain(text: str) -> None:
            if not re.search(allowed, text):
                complaints.append(text)

        # What the policy forbids is an error on the console too.
        page.on("console", lambda each: complain(f"{each.type}: {each.text}"))
        page.on("pageerror", lambda error: complain(str(error)))
        page.goto(url)
        return page

    yield opened
    for each in contexts:
        each.close()
    assert complaints == []


def expect(locator: Any) -> Any:
    """
    Wait for what a part of the page is to be.
    """
    from playwright.sync_api import expect

    expect.set_options(timeout=LIMIT * 1000)
    return expect(locator)


def violations(page: Any) -> list[str]:
    """
    Have axe-core look for what would keep somebody from using the page.
    """
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html']} {node['failureSummary']}"
        for each in found
        for node in each["nodes"]
    ]


def test_saysWhetherAllIsWell(admin: PageServer, open_page: Open) -> None:
    """
    The first sentence says what is not well, and then how many are up and wait; the
    page's title begins with the same.
    """
    page = open_page(admin.url)
    headline = page.locator("#headline")
    expect(headline).to_have_text("web/c has been down for 60 min: Connection refused.")
    expect(page.locator("#summary")).to_have_text(
        "2 of 3 destinations are up. 3 clients wait, the longest for 2.5 s."
    )
    expect(page).to_have_title(re.compile("^! web/c has been down"))
    admin.status = status(pool("web", destination("web", "a")))
    expect(headline).to_have_text("All is well.")
    expect(page.locator("#summary")).to_have_text(
        "The destination is up. Nobody waits."
    )
    gone = destination("web", "a", state="down")
    admin.status = status(pool("web", gone, state="down", waiting=1, oldestWait=61))
    expect(headline).to_have_text("Pool web is down: a is not up.")
    expect(page.locator("#summary")).to_have_text(
        "0 of 1 destinations are up. 1 client waits, for 61 s."
    )
    assert page.locator("#well").get_attribute("data-level") == "bad"


def test_certificates(admin: PageServer, open_page: Open) -> None:
    """
    The page says when a certificate is about to expire, or has expired, and when its
    renewal cannot be used.
    """
    tls = {"certificates": 2, "expires": ago(-9 * 86400), "expiring": "example.org"}
    tls |= {"problem": None, "handshakes": 1, "failed": 0}
    listener = {"name": "s", "address": "tcp:443", "state": "listening", "tls": tls}
    admin.status = status(pool("web", destination("web", "a"), listeners=[listener]))
    page = open_page(admin.url)
    headline = page.locator("#headline")
    expect(headline).to_have_text(
        "tcp:443 of pool web: the certificate of example.org expires in 9 days."
    )
    tls["problem"] = "there is no private key in '/own.pem'"
    tls["expires"] = ago(-80 * 86400)
    expect(headline).to_have_text(
        "tcp:443 of pool web: its certificates have changed and cannot be used: there "
        "is no private key in '/own.pem'."
    )
    tls |= {"problem": None, "expires": ago(7200)}
    expect(headline).to_have_text(
        "tcp:443 of pool web: the certificate of example.org expired 2 h ago."
    )
    tls["expires"] = ago(-80 * 86400)
    expect(headline).to_have_text("All is well.")


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"state": "stopping", "sessions": 2}, "is stopping: 2 sessions left."),
        (
            {"accepting": False, "maxConnections": 20000},
            "No more clients are accepted: 20,000 connections at most.",
        ),
        (
            {"reload": {"successful": False, "messages": ["iawlb.toml:3: no"]}},
            "The last reload failed: iawlb.toml:3: no. What was read before",
        ),
        ({"log": {"dropped": 1}}, "1 log line could not be written."),
        ({"ready": False, "why": "nothing is up"}, "nothing is up"),
    ],
)
def test_saysWhatElseIsNotWell(
    admin: PageServer, open_page: Open, others: dict[str, Any], said: str
) -> None:
    """
    A balancer that stops or is full, a failed reload and lost log lines are said.
    """
    admin.status = status(pool("web", destination("web", "a")), **others)
    page = open_page(admin.url)
    expect(page.locator("#well")).to_contain_text(said)


def test_pausedPool(admin: PageServer, open_page: Open) -> None:
    """
    A paused pool is shown with who paused it, and has a button to resume it.
    """
    paused = {"by": "uid 1000", "since": pageserver.ago(60)}
    admin.status = status(
        pool(
            *("web", destination("web", "a")),
            state="paused",
            paused={**paused, "until": None, "maxPause": None},
        )
    )
    page = open_page(admin.url)
    expect(page.locator("#headline")).to_have_text("Pool web is paused by uid 1000.")
    page.get_by_role("button", name="Resume pool web").click()
    expect(page.locator("#dialog-text")).to_contain_text("Paused by uid 1000 since")
    page.get_by_label("Let them in over, in seconds").fill("2.5")
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.locator("#announce")).to_have_text("Resumed pool web.")
    assert admin.posts == [("/resume", {"target": "web", "spread": 2.5})]


def test_showsHowFullEachIs(admin: PageServer, open_page: Open) -> None:
    """
    Each destination has its state in a word, and how many of its slots are in use.
    """
    page = open_page(admin.url)
    rows = page.locator(".rows tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("Up")
    expect(rows.nth(0)).to_contain_text("4 of 4, full")
    expect(rows.nth(0)).to_contain_text("1.2 M")
    expect(rows.nth(1)).to_contain_text("2 of 4")
    expect(rows.nth(2)).to_contain_text("Down")
    expect(rows.nth(2)).to_contain_text("Connection refused")
    width = (
        rows.nth(1)
        .locator(".bar i")
        .evaluate(
            "each => each.getBoundingClientRect().width / each.parentNode.offsetWidth"
        )
    )
    assert 0 < width <= 0.51


def test_showsWhatDiffersFromTheFile(admin: PageServer, open_page: Open) -> None:
    """
    What was changed while the balancer ran, and is not as in its file, is shown.
    """
    changed = destination("web", "a", changed=["slots", "weight"])
    admin.status = status(pool("web", changed, changed=["queue-timeout"]))
    page = open_page(admin.url)
    expect(page.locator(".rows tbody tr")).to_contain_text(
        "not as in the file: slots, weight"
    )
    expect(page.locator(".facts")).to_contain_text("not as in the file: queue-timeout")
    assert violations(page) == []


def test_showsWhoIsKeptOut(admin: PageServer, open_page: Open) -> None:
    """
    A pool says how many clients its limits delay, and how many were refused; without
    any it says nothing of it.
    """
    kept = pool("web", destination("web", "a"))
    admin.status = status(kept)
    page = open_page(admin.url)
    expect(page.locator(".facts")).to_contain_text("since the start")
    expect(page.locator(".facts")).not_to_contain_text("refused")
    kept |= {"delayed": 1, "refused": {"denied": 2, "rate": 1400}}
    expect(page.locator(".facts")).to_contain_text("1 client delayed by limits")
    expect(page.locator(".facts")).to_contain_text("1,402 refused")
    assert violations(page) == []


def test_updatesLive(admin: PageServer, open_page: Open) -> None:
    """
    Figures, the oldest waiters, the charts and the events change while the page is
    open.
    """
    page = open_page(admin.url)
    expect(page.locator("#tile-waiting .big")).to_have_text("3")
    expect(page.locator("#no-events")).to_be_visible()
    admin.waiters = [
        {"id": 7, "pool": "web", "client": "10.0.0.7:5", "waited": 2.5, "tries": 1}
    ]
    admin.status = usual(waiting=1234, sessions=77)
    admin.emit("destination-down", pool="web", destination="c", text=REFUSED)
    expect(page.locator("#tile-waiting .big")).to_have_text("1,234")
    expect(page.locator("#tile-sessions .big")).to_have_text("77")
    expect(page.locator("#waiters tbody")).to_contain_text("10.0.0.7:5")
    expect(page.locator("#events")).to_contain_text("web/c is down: Connection refused")
    expect(page.locator("#tile-waiting .line-0")).to_have_attribute(
        "d", re.compile("^M.*L")
    )
    admin.emit("destination-up", pool="web", destination="c", text=None, by="uid 0")
    expect(page.locator("#events li").first).to_contain_text("web/c is up, by uid 0")


def test_eventsBeforeTheVisit(admin: PageServer, open_page: Open) -> None:
    """
    The events that came before the page was opened are shown too.
    """
    admin.emit("reload", text="reloaded iawlb.toml")
    page = open_page(admin.url)
    expect(page.locator("#events")).to_contain_text("reloaded iawlb.toml")


def test_drains(admin: PageServer, open_page: Open) -> None:
    """
    A destination is drained after a confirmation, and the result is said to screen
    readers too. A cancelled dialog does nothing.
    """
    page = open_page(admin.url)
    drain = page.get_by_role("button", name="Drain web/a")
    drain.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("The 4 sessions that run now finish; none is cut.")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).not_to_be_visible()
    expect(drain).to_be_focused()
    assert admin.posts == []
    drain.click()
    dialog.get_by_role("button", name="Drain").click()
    expect(page.locator("#result-text")).to_have_text("web/a drains.")
    expect(page.get_by_role("status")).to_have_text("web/a drains.")
    assert admin.posts == [("/drain", {"target": "web/a", "wait": False})]
    draining = destination("web", "a", active=4, state="draining")
    admin.status = status(pool("web", draining))
    expect(page.locator("#notes")).to_have_text("web/a is draining; 4 sessions left.")
    expect(drain).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).not_to_be_visible()


def test_refusedAction(admin: PageServer, open_page: Open) -> None:
    """
    When the balancer refuses, the dialog stays open and says why.
    """
    admin.refusal = (409, "web/a is being removed")
    page = open_page(admin.url, allowed="409")
    page.get_by_role("button", name="Slots web/a").click()
    field = page.get_by_label("Slots", exact=True)
    expect(field).to_be_focused()
    field.fill("-1")
    page.get_by_role("button", name="Set slots").click()
    assert admin.posts == []  # the browser says what is wrong with the number
    field.fill("9")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("alert")).to_have_text(
        "web/a is being removed"
    )
    assert admin.posts == [("/set", {"target": "web/a", "slots": 9})]
    admin.refusal = None
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).not_to_be_visible()
    expect(page.locator("#result-text")).to_have_text("web/a has 9 slots now.")


def test_keyboardAlone(admin: PageServer, open_page: Open) -> None:
    """
    Everything can be pressed with the keyboard alone.
    """
    page = open_page(admin.url)
    expect(page.get_by_role("button", name="Pause all")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the destinations")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Pause all")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_label("The pause ends").select_option("300")
    page.keyboard.press("Tab")
    page.keyboard.type("20")
    page.keyboard.press("Enter")
    expect(page.locator("#result-text")).to_have_text("Paused all pools for 5 min.")
    body = {"target": "*", "wait": False, "for": 300, "maxPause": 20}
    assert admin.posts == [("/pause", body)]


def test_readOnly(admin: PageServer, open_page: Open) -> None:
    """
    Who may only read has no buttons, and is told why; a token of another role brings
    them.
    """
    admin.status = lambda: usual(role="read")
    page = open_page(admin.url, allowed="401")
    expect(page.locator("#reason")).to_contain_text("Read only: to pause")
    for name in ("Drain web/a", "Pause pool web", "Pause all"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    assert violations(page) == []
    admin.token = "secret"
    expect(page.locator("#headline")).to_have_text(
        "A token is needed to see this balancer."
    )
    page.get_by_role("button", name="Sign in").click()
    dialog = page.get_by_role("dialog")
    page.get_by_label("Token").fill("schlüssel")
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_role("alert")).to_contain_text("A token is of letters")
    page.get_by_label("Token").fill("wrong")
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_role("alert")).to_contain_text("does not know this token")
    admin.status = lambda: usual(role="operate")
    page.get_by_label("Token").fill("secret")
    dialog.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Drain web/a")).to_be_visible()
    expect(page.locator("#result-text")).to_have_text("Signed in: the role is operate.")
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#link-text")).to_have_text("not signed in")


def test_lostConnection(admin: PageServer, open_page: Open) -> None:
    """
    When the balancer does not answer, the page says so and since when; it goes on when
    the balancer is back.
    """
    page = open_page(admin.url, allowed="ERR_|404|Failed to load")
    expect(page.locator("#link-text")).to_have_text("live")
    admin.stop()
    expect(page.get_by_role("alert")).to_have_text(
        re.compile(r"^The connection to the balancer is lost since \d\d:\d\d:\d\d: ")
    )
    expect(page.locator("#headline")).to_have_text(
        "It is not known whether all is well."
    )
    expect(page.locator("#link-text")).to_have_text(re.compile("^lost since"))
    assert violations(page) == []
    admin.start()
    expect(page.locator("#link-text")).to_have_text("live")
    expect(page.locator("#lost")).not_to_be_visible()
    admin.emit("reload", text="after the gap")
    expect(page.locator("#events")).to_contain_text("after the gap")


def test_anotherProcess(admin: PageServer, open_page: Open) -> None:
    """
    When the balancer was restarted, all events of the new process are shown, although
    their numbers begin anew.
    """
    for number in range(5):
        admin.emit("reload", text=f"old {number}")
    page = open_page(admin.url, allowed="ERR_|404|Failed to load")
    expect(page.locator("#events li")).to_have_count(5)
    admin.stop()
    admin.events.clear()
    admin.status = usual(pid=4712)
    admin.emit("reload", text="new")
    admin.start()
    expect(page.locator("#events")).to_contain_text("new")
    expect(page.locator("#events li").first).to_have_text(re.compile("new$"))


def test_namesAreText(admin: PageServer, open_page: Open) -> None:
    """
    Names and texts that hold markup are shown as they are.
    """
    admin.status = status(
        pool(
            BIDI,
            destination(BIDI, BIDI, address=BIDI, state="down", why=BIDI),
            listeners=[{"name": BIDI, "address": BIDI, "state": "refusing"}],
        ),
        version=BIDI,
        reload={"successful": False, "messages": [BIDI]},
    )
    admin.waiters = [{"id": 1, "pool": BIDI, "client": BIDI, "waited": 1, "tries": 0}]
    admin.emit(BIDI, text=BIDI, by=BIDI)
    page = open_page(admin.url)
    expect(page.locator(".rows .title")).to_have_text(BIDI)
    expect(page.locator("#events")).to_contain_text(BIDI)
    assert page.locator("img").count() == 1
    page.get_by_role("button", name=f"Drain {BIDI}/{BIDI}").click()
    expect(page.get_by_role("dialog")).to_contain_text(BIDI)
    assert page.locator("img").count() == 1


def test_manyDestinations(admin: PageServer, open_page: Open) -> None:
    """
    With 1,000 destinations in 50 pools, a filter finds the ones that are looked for.
    """
    pools = [
        pool(
            f"pool-{number:02}",
            *(
                destination(f"pool-{number:02}", f"web-{number:02}-{each:02}")
                for each in range(20)
            ),
        )
        for number in range(50)
    ]
    pools[30]["destinations"][7].update(state="down", why="Connection refused")
    admin.status = status(*pools)
    page = open_page(admin.url)
    expect(page.locator("#count")).to_have_text("999 of 1,000 up in 50 pools")
    expect(page.locator(".rows tbody tr")).to_have_count(1000)
    page.get_by_label("Filter by name or address").fill("web-49-1")
    expect(page.locator(".rows tbody tr")).to_have_count(10)
    expect(page.locator("#count")).to_have_text("10 of 1,000 shown")
    page.get_by_label("Filter by name or address").fill("")
    page.get_by_label("Filter by state").select_option("not up")
    expect(page.locator(".rows tbody tr")).to_have_count(1)
    expect(page.locator(".rows .title")).to_have_text("web-30-07")


def test_oneLargePool(admin: PageServer, open_page: Open) -> None:
    """
    A pool with 1,000 destinations shows 100, those that are not up among them, and all
    if asked to.
    """
    every = [destination("web", f"web-{number:04}") for number in range(1000)]
    every[987].update(state="paused")
    admin.status = status(pool("web", *every))
    page = open_page(admin.url)
    expect(page.locator(".rows tbody tr")).to_have_count(100)
    expect(page.locator(".rows .title").first).to_have_text("web-0987")
    page.get_by_role("button", name="Show all 1,000").click()
    expect(page.locator(".rows tbody tr")).to_have_count(1000)


@pytest.mark.parametrize("width", [375, 320])
def test_longNamesOnAPhone(admin: PageServer, open_page: Open, width: int) -> None:
    """
    Nothing is wider than a phone, whatever the names and numbers are; nor than a screen
    at 400 %.
    """
    admin.status = status(
        pool(
            "p" * 64,
            destination(
                *("p" * 64, "n" * 120),
                address="/run/" + "a" * 100,
                active=1234567890,
                slots=2345678901,
                served=10**15,
                errors=10**12,
                bytesOut=10**18,
            ),
            waiting=10**9,
            oldestWait=1e7,
            bytesOut=10**18,
        )
    )
    page = open_page(admin.url, viewport={"width": width, "height": 800})
    expect(page.locator(".rows .title")).to_have_text("n" * 120)
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("name", ["light", "dark", "phone"])
def test_accessible(admin: PageServer, open_page: Open, name: str) -> None:
    """
    axe-core finds nothing to complain of in light, in dark and on a phone; nor in a
    dialog, or a message.
    """
    admin.waiters = [
        {"id": 7, "pool": "web", "client": "10.0.0.7:5", "waited": 2.5, "tries": 1}
    ]
    admin.emit("destination-down", pool="web", destination="c", text=REFUSED)
    page = open_page(admin.url, **screen(name))
    expect(page.locator("#waiters")).to_be_visible()
    expect(page.locator("#events")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("button", name="Pause pool web").click()
    assert violations(page) == []
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(page.locator("#result")).to_be_visible()
    assert violations(page) == []


def screen(name: str) -> dict[str, Any]:
    """
    Return the options of a browser's screen.
    """
    if name == "phone":
        size = {"width": 375, "height": 812}
        return {"viewport": size, "has_touch": True, "is_mobile": True}
    return {"color_scheme": name, "reduced_motion": "reduce"}


def slowly(peer: socket.socket) -> None:
    """
    Answer after a moment, as a busy server does.
    """
    peer.recv(1000)
    time.sleep(0.1)
    peer.sendall(b"x" * 100_000)


@pytest.fixture
def crowd() -> Iterator[Callable[[int], None]]:
    """
    Keeps six clients busy at a port, until the end of the test.
    """
    going = threading.Event()
    going.set()

    def client(port: int) -> None:
        while going.is_set():
            # A client may be cut off at the end.
            with suppress(OSError), connect(port) as connection:
                connection.sendall(b"hello")
                readAll(connection)

    threads: list[threading.Thread] = []

    def started(port: int) -> None:
        threads.extend(threading.Thread(target=client, args=(port,)) for _ in range(6))
        for each in threads:
            each.start()

    yield started
    going.clear()
    for each in threads:
        each.join(LIMIT)


TOKEN = "0123456789abcdef0123456789abcdef"


def test_realBalancer(
    balancer: Balancers,
    serve: Serve,
    crowd: Callable[[int], None],
    open_page: Open,
    tmp_path: Path,
) -> None:
    """
    The page of a real balancer, with two destinations under load and one down: it
    shows what happens, and a destination is drained and a pool is paused by clicks.
    """
    ports = [serve(slowly), serve(slowly), freePort()]
    admin, clients = freePort(), freePort()
    tokens = tmp_path / "tokens"
    tokens.write_text(f"operate {TOKEN}\n")
    tokens.chmod(0o600)
    file = tmp_path / "iawlb.toml"
    file.write_text(
        "\n".join(
            [
                "[pools.web]",
                f'listen = "127.0.0.1:{clients}"',
                "destination-slots = 2",
                "[pools.web.destinations]",
                *(
                    f'{name} = "127.0.0.1:{port}"'
                    for name, port in zip("abc", ports, strict=True)
                ),
                "[admin]",
                f'listen = "127.0.0.1:{admin}"',
                f'tokens = "{tokens}"',
            ]
        )
    )
    balancer.run(clients, ["--config", str(file)])
    crowd(clients)
    page = open_page(f"http://127.0.0.1:{admin}/")
    expect(page.locator("#headline")).to_have_text(
        re.compile(r"^web/c has been down for .*: Connection refused\.$")
    )
    expect(page.locator("#summary")).to_contain_text("2 of 3 destinations are up.")
    expect(page.locator("#summary")).to_contain_text("2 clients wait")
    expect(page.locator(".rows tbody tr").first).to_contain_text("2 of 2, full")
    expect(page.locator("#waiters tbody tr")).to_have_count(2)
    expect(page.locator("#events")).to_contain_text("web/c is down: Connection refused")
    expect(page.get_by_role("button", name="Drain web/a")).to_have_count(0)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#result-text")).to_have_text("Signed in: the role is operate.")
    assert violations(page) == []
    page.get_by_role("button", name="Drain web/a").click()
    page.get_by_role("dialog").get_by_role("button", name="Drain").click()
    expect(page.locator("#notes")).to_have_text(
        "web/a is draining; no session is left."
    )
    expect(page.locator("#events")).to_contain_text("web/a is draining")
    page.get_by_role("button", name="Resume web/a").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.locator("#notes")).to_be_hidden()
    page.get_by_role("button", name="Slots web/a").click()
    page.get_by_label("Slots", exact=True).fill("1")
    page.keyboard.press("Enter")
    expect(page.locator(".rows tbody tr").first).to_contain_text("1 of 1, full")
    page.get_by_role("button", name="Pause pool web").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(page.locator("#headline")).to_have_text(
        re.compile(r"^Pool web is paused by token operate \(127\.0\.0\.1:\d+\)\.$")
    )
    expect(page.locator("#summary")).to_contain_text("6 clients wait")
    page.get_by_role("button", name="Resume pool web").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.locator("#headline")).to_contain_text("web/c has been down")
