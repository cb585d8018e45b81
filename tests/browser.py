"""A real Chromium, spoken to through its debugging pipe: what a page looks like, says and asks for.

Messages are JSON ended by a zero byte: the browser reads file descriptor 3 and writes 4 (`--remote-debugging-pipe`).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-extensions --hide-scrollbars --remote-debugging-pipe"
)


class Browser:
    """One tab."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = os.fdopen(to, "wb", buffering=0), os.fdopen(back, "rb", buffering=0)
        self._pending = b""
        self._asked = 0
        self._session = ""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its result; events meanwhile are kept."""
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": params}
        self._to.write(json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode() + b"\0")
        while (reply := self._next()).get("id") != self._asked:
            self.events.append(reply)
        assert "error" not in reply, reply["error"]
        result: dict[str, Any] = reply["result"]
        return result

    def open(self, url: str, width: int, dark: bool) -> None:
        """Load a page of some width, as somebody who likes it light or dark."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.events.clear()
        self.ask("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def value(self, script: str) -> Any:
        """What an expression is in the page."""
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def requests(self) -> list[str]:
        """The addresses asked for since the page was opened."""
        sent = (event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent")
        return [params["request"]["url"] for params in sent]

    def complaints(self) -> list[str]:
        """What was written to the console, by the page or by the browser about it."""
        kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [json.dumps(event["params"]) for event in self.events if event.get("method") in kinds]

    def screenshot(self, path: Path) -> None:
        """The whole page."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        picture = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(picture))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            part = self._back.read(1 << 16)
            assert part, "the browser has gone"
            self._pending += part
        message, _, self._pending = self._pending.partition(b"\0")
        reply: dict[str, Any] = json.loads(message)
        return reply

    def close(self) -> None:
        """Hang up."""
        self._to.close()
        self._back.close()


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """A browser of its own, ended afterwards."""
    reads, to = os.pipe()
    back, writes = os.pipe()
    command = f"exec {CHROMIUM} {_FLAGS} --user-data-dir={profile} 3<&{reads} 4>&{writes}"
    process = subprocess.Popen(["bash", "-c", command], pass_fds=(reads, writes), stderr=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL)  # fmt: skip
    os.close(reads)
    os.close(writes)
    try:
        browser = Browser(to, back)
        yield browser
        browser.close()
    finally:
        process.terminate()
        process.wait(30)
