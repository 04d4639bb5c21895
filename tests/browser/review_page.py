"""The review page as a person uses it: keys, mouse and fingers, in the picture's own pixels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from playwright.sync_api import CDPSession, Locator, expect

from schemas.geometry import PixelBox
from tests.browser.site import Window

_BOX = re.compile(r"(\d+), (\d+) to (\d+), (\d+)")
Point = tuple[float, float]


@dataclass(frozen=True)
class Drawn:
    """Where the browser has painted the picture, in CSS pixels of the window.

    Attributes:
        scale: CSS pixels a picture pixel.
    """

    left: float
    top: float
    scale: float

    def on_screen(self, x: float, y: float) -> Point:
        """A point of the picture, on a whole pixel of the screen: mice know no others."""
        return round(self.left + x * self.scale), round(self.top + y * self.scale)

    def in_picture(self, at: Point) -> Point:
        return (at[0] - self.left) / self.scale, (at[1] - self.top) / self.scale


class ReviewPage:
    """The page in a window of somebody who may decide."""

    def __init__(self, opened: Window, path: str = "/review") -> None:
        self.window = opened
        # The login leads to the queue; loaded twice at once, it would hold what the first page has not yet given back.
        self.page = opened.page if opened.page.url == opened.address + path else opened.open(path)
        self.wait()

    def wait(self) -> None:
        """Until a picture is there."""
        expect(self.page.get_by_test_id("deck")).to_have_attribute("data-state", "ready")

    @property
    def result(self) -> int:
        """Number of the result that is shown."""
        return int(self.page.get_by_test_id("permalink").inner_text().removeprefix("#"))

    def next_after(self, number: int) -> None:
        """Until another picture is there."""
        expect(self.page.get_by_test_id("permalink")).not_to_have_text(f"#{number}")
        self.wait()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    @property
    def boxes(self) -> list[PixelBox]:
        """The boxes as the page lists them."""
        entries = self.page.get_by_test_id("box-list").locator("[data-choose]").all_inner_texts()
        found = [_BOX.search(entry) for entry in entries]
        return [PixelBox.of(*map(int, each.groups())) for each in found if each is not None]

    def drawn(self, pane: str = "overlay") -> Drawn:
        """Where the picture is, asked of the browser and not of the page's own reckoning."""
        image = self.page.get_by_test_id(f"pane-{pane}").locator("img.picture")
        left, top, width, natural = image.evaluate(
            "each => { const r = each.getBoundingClientRect(); return [r.left, r.top, r.width, each.naturalWidth]; }"
        )
        return Drawn(left, top, width / natural)

    def middle(self, pane: str = "overlay") -> Point:
        """Of a pane."""
        place = self.viewport(pane).bounding_box()
        assert place is not None
        return place["x"] + place["width"] / 2, place["y"] + place["height"] / 2

    def viewport(self, pane: str = "overlay") -> Locator:
        return self.page.get_by_test_id(f"pane-{pane}").locator(".viewport")

    def drag(self, start: Point, end: Point) -> None:
        """With the mouse, over a point in between."""
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        mouse.move(*end)
        mouse.up()


class Fingers:
    """Touches, as a touch screen sends them."""

    def __init__(self, review: ReviewPage) -> None:
        self._session: CDPSession = review.page.context.new_cdp_session(review.page)

    def drag(self, *ways: tuple[Point, Point], steps: int = 4) -> None:
        """Each finger along its way, all at once."""
        self._send("touchStart", [start for start, _ in ways])
        for step in range(1, steps + 1):
            share = step / steps
            self._send("touchMove", [(a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share) for a, b in ways])
        self._send("touchEnd", [])

    def _send(self, kind: str, points: Sequence[Point]) -> None:
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        self._session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
