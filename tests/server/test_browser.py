"""The page for people in a real browser, over a real Redis with Celery's queues."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from aiohttp.test_utils import TestServer
from celery import Celery

from taskq_exporter.testing.browser import Tab, open_browser
from taskq_exporter.testing.watch import watch
from taskq_exporter.web.app import make_app

pytestmark = pytest.mark.newest

#: Text whose contrast against its background is below WCAG's AA.
TOO_FAINT = """
(() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => numbers(color).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    const color = getComputedStyle(one).backgroundColor;
    return numbers(color)[3] === 0 ? behind(one.parentElement) : color;
  };
  return [...document.querySelectorAll("body *")]
    .filter((one) => [...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && one.checkVisibility())
    .map((one) => [one.textContent, light(getComputedStyle(one).color), light(behind(one))])
    .filter(([, a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5);
})()
"""


def send(url: str, *queues: str) -> None:
    with Celery(broker=url) as app, app.connection_for_write() as connection:
        for queue in queues:
            app.send_task("send_mail", queue=queue, connection=connection)


@asynccontextmanager
async def shown(url: str) -> AsyncIterator[tuple[TestServer, Tab, str]]:
    """A server of the page over one broker, a browser, and the page's address."""
    async with (
        watch({"name": "shop", "adapter": "celery", "url": url}) as watched,
        TestServer(make_app(watched.exporter)) as server,
        open_browser() as tab,
    ):
        yield server, tab, str(server.make_url("/"))


def ready(queue: str) -> str:
    row = f"[...document.querySelectorAll('.queues tbody tr')].find((row) => row.textContent.startsWith({queue!r}))"
    return f"{row}?.cells[1].textContent"


def names() -> str:
    return "[...document.querySelectorAll('.queues tbody th span')].map((name) => name.textContent).join(' ')"


async def test_a_browser_shows_a_queue_and_sees_it_change_in_both_themes(redis_url: str) -> None:
    send(redis_url, *["emails"] * 3, "<script>alert(1)</script>")
    async with shown(redis_url) as (_, tab, address):
        await tab.open(address)
        await tab.until(f"{ready('emails')} === '3'")
        assert await tab.evaluate(ready("<script>")) == "1"
        assert await tab.evaluate("document.scripts.length") == 1
        light = await tab.evaluate("getComputedStyle(document.body).backgroundColor")
        await tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert await tab.evaluate(TOO_FAINT) == []
        await tab.evaluate("window.same = true")
        send(redis_url, *["emails"] * 2)
        await tab.until(f"{ready('emails')} === '5' && window.same")
        await tab.theme(dark=True)
        assert await tab.evaluate("getComputedStyle(document.body).backgroundColor") != light
        assert await tab.evaluate(TOO_FAINT) == []
        assert await tab.evaluate("document.getElementById('live').textContent") == "live"
        assert tab.errors == []


async def test_what_somebody_is_doing_survives_an_update(redis_url: str) -> None:
    send(redis_url, "emails", *["images"] * 2, *["mails"] * 3)
    async with shown(redis_url) as (_, tab, address):
        await tab.open(address)
        await tab.until(f"{ready('emails')} === '1'")
        await tab.evaluate("window.same = true, document.querySelector('details').open = true")
        await tab.evaluate("document.getElementById('filter').focus()")
        await tab.send("Input.insertText", text="mail")
        await tab.until(f"{names()} === 'emails mails' || {names()} === 'mails emails'")
        await tab.evaluate("[...document.querySelectorAll('thead a')].find((a) => a.textContent === 'Ready').click()")
        await tab.until(f"{names()} === 'mails emails' && !!document.querySelector('[aria-sort]')")
        await tab.evaluate("document.getElementById('filter').focus()")
        send(redis_url, *["emails"] * 4)
        await tab.until(f"{names()} === 'emails mails' && {ready('emails')} === '5'")
        kept = "[document.activeElement.id, document.activeElement.value, document.querySelector('details').open, same]"
        assert await tab.evaluate(kept) == ["filter", "mail", True, True]
        assert await tab.evaluate("location.search") == "?sort=ready&filter=mail"
        assert tab.errors == []


async def test_without_javascript_it_is_whole(redis_url: str) -> None:
    send(redis_url, "emails", *["images"] * 2)
    async with shown(redis_url) as (_, tab, address):
        await tab.open(f"{address}?sort=ready", script=False)
        assert await tab.evaluate(names()) == "images emails"
        assert await tab.evaluate("document.querySelector('noscript meta').httpEquiv") == "refresh"
        assert await tab.evaluate("document.querySelector('form button').checkVisibility()")
        assert await tab.evaluate("document.getElementById('live').textContent") == "", "it is not live"


async def test_it_says_when_the_exporter_is_gone(redis_url: str) -> None:
    send(redis_url, "emails")
    async with shown(redis_url) as (server, tab, address):
        await tab.open(address)
        await tab.until(f"{ready('emails')} === '1'")
        await server.close()
        await tab.until("document.getElementById('live').textContent.includes('cannot be reached')")
        assert await tab.evaluate(ready("emails")) == "1", "the old numbers stay"


@pytest.mark.parametrize("width", [390, 1280])
async def test_300_queues_fit_a_phone_and_a_desk(redis_url: str, width: int) -> None:
    send(redis_url, *many(300))
    async with shown(redis_url) as (_, tab, address):
        await tab.open(address, width=width)
        await tab.until("document.querySelectorAll('.queues tbody tr').length === 300")
        assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        await tab.evaluate("window.scrollTo(0, 5000)")
        head = "document.querySelector('thead th').getBoundingClientRect().top"
        assert (await tab.evaluate(head) == 0) == (width == 1280), "the head stays in sight where there is room"
        assert tab.errors == []


def many(n: int) -> Iterable[str]:
    return (f"billing.invoices.eu-west-1.priority-{i}" for i in range(n))
