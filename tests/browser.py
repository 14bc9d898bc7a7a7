"""A headless Chromium for tests of pages, spoken to over its own DevTools protocol.

python tests/browser.py URL PICTURE.png [SECONDS]: what a page looks like after so long.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--remote-debugging-port=0", "--hide-scrollbars", "--no-first-run",
)  # fmt: skip


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page. requests: every address that it asked for, over HTTP or as a WebSocket."""

    def __init__(self, url: str, width: int = 1280, height: int = 800) -> None:
        from websockets.sync.client import connect

        program = find_chromium()
        assert program is not None
        self.requests: list[str] = []
        self._count = 0
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self._folder.name}", f"--window-size={width},{height}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port()}/json", timeout=30) as answer:
                page = next(target for target in json.load(answer) if target["type"] == "page")
            self._socket = connect(page["webSocketDebuggerUrl"], max_size=None, open_timeout=30)
            self.call("Network.enable")
            self.call("Page.enable")
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            self.call("Emulation.setDeviceMetricsOverride", **size)
            self.call("Page.navigate", url=url)
        except BaseException:
            self.close()
            raise

    def _port(self) -> str:
        told = Path(self._folder.name) / "DevToolsActivePort"
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if told.exists() and len(lines := told.read_text().split()) == 2:
                return lines[0]
            time.sleep(0.1)
        raise TimeoutError("Chromium does not start")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(60))
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("method") == "Network.webSocketCreated":
                self.requests.append(answer["params"]["url"])
            if answer.get("id") == self._count:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def evaluate(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self) -> str:
        return self.evaluate("document.body ? document.body.innerText : ''")

    def click(self, button: str) -> None:
        self.evaluate(
            f"[...document.querySelectorAll('button')].find(b => b.innerText == {json.dumps(button)}).click()"
        )

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def wait_for(self, text: str, seconds: float = 30.0) -> str:
        """The page's text, as soon as it has `text` in it."""
        end = time.monotonic() + seconds
        while text not in (shown := self.text()):
            assert time.monotonic() < end, f"{text!r} does not come, there is {shown!r}"
            time.sleep(0.1)
        return shown

    def picture(self) -> bytes:
        """PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._folder.cleanup()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


if __name__ == "__main__":
    with Browser(sys.argv[1], 1280, 800) as browser:
        time.sleep(float(sys.argv[3]) if len(sys.argv) > 3 else 10.0)
        browser.evaluate("document.querySelectorAll('[role=alert] button').forEach(b => b.click())")
        time.sleep(1.5)
        Path(sys.argv[2]).write_bytes(browser.picture())
        print(browser.text())
