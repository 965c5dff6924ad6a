"""What a person does with the page, and reads from it, in a browser."""

import csv
import io
import re

import numpy as np

READY = "body[data-ready=true]"
# The result of the drawing, as the canvas holds it.
PIXELS = "canvas => canvas.toDataURL()"
COLOURS = """canvas => new Set(new Uint32Array(
    canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"""


def settle(page):
    """Wait until what was changed has been drawn: the frame after the next has it, or one that comes when its
    images have been unpacked.
    """
    page.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))"
    )
    page.wait_for_selector(READY)


def panel(page, number):
    """Find a panel of the page as it is once everything has been drawn."""
    settle(page)
    return page.locator(".panel").nth(number)


def canvas(page, number):
    return panel(page, number).locator(".image-view canvas").first


def pixels(page, number):
    settle(page)
    return canvas(page, number).evaluate(PIXELS)


def hover(page, number, x, y):
    """Move the mouse to a part of an image; return the pixel (x, y) that the page then names."""
    box = canvas(page, number).bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    settle(page)
    found = re.match(r"x (\d+), y (\d+) px", page.locator("#status").inner_text())
    return int(found[1]), int(found[2])


def readout(page, number, result=0):
    return panel(page, number).locator("output").nth(result).inner_text()


def number_in(text):
    return float(re.match(r"[−\d.]+", text)[0].replace("−", "-"))


def saved_profile(page):
    with page.expect_download() as download:
        page.get_by_role("button", name="Save values").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8"))))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def set_line(page, **ends):
    for name, value in ends.items():
        label = f"Profile: {name[0]} of the {'start' if name[1] == '0' else 'end'} in pixels"
        page.get_by_label(label).fill(str(value))
        page.keyboard.press("Enter")
    settle(page)


def set_line_by_keys(page):
    canvas(page, 1).focus()
    for key in ("p", "Shift+ArrowRight", "p"):
        page.keyboard.press(key)
    settle(page)
