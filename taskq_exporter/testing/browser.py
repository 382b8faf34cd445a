"""A real Chromium without a window, driven by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse

from .child import Child
from .processes import new_directory

__all__ = ["Tab", "open_browser"]

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Events in which the browser complains: an exception, console.error, a refused style or script, a request that failed.
COMPLAINTS = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}


class Tab:
    """The browser's one tab."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        #: What the browser complained of since it was started.
        self.errors: list[str] = []

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the protocol. Raises AssertionError where the browser refuses it."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async for message in self._socket:
            said = json.loads(message.data)
            if said.get("id") == number:
                assert "error" not in said, f"{method}: {said['error']}"
                result: dict[str, Any] = said["result"]
                return result
            self._note(said)
        raise AssertionError("the browser is gone")

    def _note(self, event: dict[str, Any]) -> None:
        level = event.get("params", {}).get("entry", event.get("params", {})).get("level", "error")
        kind = event.get("params", {}).get("type", "error")
        if event["method"] in COMPLAINTS and level == kind == "error":
            self.errors.append(json.dumps(event["params"]))

    async def open(
        self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False, script: bool = True
    ) -> None:
        """Show a page: its window in CSS pixels, its colours, and whether JavaScript runs."""
        await self.send("Emulation.setScriptExecutionDisabled", value=not script)
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        await self.theme(dark=dark)
        failed = (await self.send("Page.navigate", url=url)).get("errorText")
        assert not failed, f"{url}: {failed}"
        await self.until(f"document.readyState == 'complete' && location.href.startsWith({json.dumps(url)})")

    async def theme(self, *, dark: bool) -> None:
        """Prefer a dark or a light page from now on."""
        preference = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[preference])

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression. Raises AssertionError where it throws."""
        said = await self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def until(self, expression: str, seconds: float = 30.0) -> Any:
        """The first value of a JavaScript expression that is true. Fails where none is within `seconds`."""
        value = None
        try:
            async with asyncio.timeout(seconds):
                while not (value := await self.evaluate(expression)):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"not within {seconds:g} s: {expression}; last {value!r}; {self.errors}") from None
        return value

    async def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what is in the window, or the whole page, as PNG."""
        said = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(said["data"]))


@asynccontextmanager
async def open_browser() -> AsyncIterator[Tab]:
    """A browser with an empty tab. Skips the test where none is installed, and fails it there in CI."""
    binary = next(filter(None, map(shutil.which, NAMES)), None)
    if binary is None:
        message = "no browser to look with (Debian: apt install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    directory = new_directory("browser", None)
    port_file = directory / "DevToolsActivePort"
    flags = ["--headless", "--remote-debugging-port=0", f"--user-data-dir={directory}", "--no-first-run"]
    # a container's /dev/shm is small; root has no sandbox; nothing beyond loopback is ever reached
    flags += ["--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking", "--no-proxy-server"]
    flags += ["--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    ready = partial(_holds_a_line, port_file)
    start = partial(Child, [binary, *flags, "about:blank"], directory=directory, ready=ready)
    child = await asyncio.to_thread(start)
    try:
        async with ClientSession() as session:
            port = port_file.read_text().split()[0]
            async with session.get(f"http://127.0.0.1:{port}/json/list") as said:
                (page,) = [target for target in await said.json() if target["type"] == "page"]
            async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                tab = Tab(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await tab.send(f"{domain}.enable")
                yield tab
    finally:
        await asyncio.to_thread(child.close)


def _holds_a_line(file: Path) -> bool:
    return file.exists() and "\n" in file.read_text()
