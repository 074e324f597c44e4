"""A real browser without a window that a test looks at and clicks in, by the DevTools protocol over a web socket."""

import base64
import contextlib
import io
import itertools
import json
import pathlib
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers import chromium

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars"),
    *("--disable-gpu-sandbox", "--no-first-run", "--remote-debugging-port=0", "--window-size=1280,800"),
)


class Tab:
    """The one tab of a browser.

    Attributes:
      errors: uncaught exceptions of the page, as texts.
    """

    def __init__(self, connection: Any):
        self._connection, self._ids = connection, itertools.count(1)
        self.errors: list[str] = []

    def call(self, method: str, **parameters) -> dict[str, Any]:
        """The result of a method of the protocol."""
        identity = next(self._ids)
        self._connection.send(json.dumps({"id": identity, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._connection.recv(timeout=120))
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(message["params"])[:500])
            if message.get("id") == identity:
                assert "error" not in message, message
                return message["result"]

    def picture(self) -> np.ndarray:
        """What one sees, (height, width, 3)."""
        shot = self.call("Page.captureScreenshot", format="png")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB"))

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def text(self) -> str:
        """The text of the page."""
        return self.evaluate("document.body ? document.body.innerText : ''")

    def canvas(self) -> tuple[float, float, float, float]:
        """Left, top, width and height of the largest canvas, pixels of `picture`."""
        rectangles = self.evaluate(
            "[...document.querySelectorAll('canvas')].map(c => c.getBoundingClientRect()).map(r => [r.x, r.y, r.width, r.height])"
        )
        left, top, width, height = max(rectangles, key=lambda rectangle: rectangle[2] * rectangle[3])
        return left, top, width, height

    def until(self, holds: Callable[[], bool], seconds: float = 90) -> None:
        """Waits until something holds.

        Raises:
          TimeoutError: it does not.
        """
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                raise TimeoutError(f"not after {seconds} s; the page says {self.text()[-500:]!r}; {self.errors}")
            time.sleep(0.3)

    def press(self, key: str) -> None:
        """Presses a key and lets it go, for what has the focus."""
        code = {"ArrowLeft": 37, "ArrowRight": 39}[key]
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def click(self, label: str) -> None:
        """Clicks the button with a label."""
        found = f"[...document.querySelectorAll('button')].find(b => b.innerText.trim() === {json.dumps(label)})"
        assert self.evaluate(f"{found}?.click() === undefined && {found} !== undefined"), f"no button {label!r}"

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 8) -> None:
        """Presses the left button at one place and lets it go at another."""

        def mouse(kind: str, place: np.ndarray, buttons: int) -> None:
            x, y = map(float, place)
            button = "left" if kind != "mouseMoved" or buttons else "none"
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button=button,
                buttons=buttons,
                clickCount=int(kind != "mouseMoved"),
            )
            time.sleep(0.15)

        first, last = np.array(start, float), np.array(end, float)
        mouse("mouseMoved", first, 0)
        mouse("mousePressed", first, 1)
        for k in range(1, steps + 1):
            mouse("mouseMoved", first + (last - first) * k / steps, 1)
        mouse("mouseReleased", last, 0)


@contextlib.contextmanager
def tab(url: str, profile: pathlib.Path) -> Iterator[Tab]:
    """Opens a browser at an address, and ends it.

    Args:
      url: of the page.
      profile: a folder for the browser's files, which is made and removed.
    """
    from websockets.sync import client  # It comes with viser.

    assert chromium.PROGRAM is not None
    command = [chromium.PROGRAM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        note = profile / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not (note.is_file() and note.read_text(encoding="utf-8").count("\n")):
            assert browser.poll() is None and time.monotonic() < end, "Chromium does not start"
            time.sleep(0.1)
        port = int(note.read_text(encoding="utf-8").split("\n")[0])
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            (page,) = (entry for entry in json.load(answer) if entry["type"] == "page")
        with client.connect(page["webSocketDebuggerUrl"], max_size=2**26, open_timeout=60) as connection:
            opened = Tab(connection)
            opened.call("Runtime.enable")
            opened.call("Page.enable")
            opened.call("Page.navigate", url=url)
            yield opened
    finally:
        browser.terminate()
        browser.wait(timeout=30)
        shutil.rmtree(profile, ignore_errors=True)
