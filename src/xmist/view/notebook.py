"""Display of results, stacks and experiments in a notebook: small images and tables, without scripts."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import without_masked
from xmist.core.data import CHANNELS, Retrieval, SpeckleStack
from xmist.core.experiment import Experiment
from xmist.core.findings import percent, warnings_first
from xmist.core.flags import count_flags
from xmist.view.figures.page import bar_length
from xmist.view.figures.panels import PREFIXES, Image, Panel, Scale, common_scales, panels, si
from xmist.view.report import page_pieces
from xmist.view.report.encode import png_text, some
from xmist.workflow.preview import reduce_result

_SIDE: Final = 200  # pixels of a small image along its longer side
_MOST: Final = 6  # images
_REPORT_SIDE: Final = 256  # pixels of the images of the report that the notebook holds
_STOPS: Final = 17  # colours of a colour bar

# No colours of its own: the page may be light or dark.
_ROW: Final = "display:flex;flex-wrap:wrap;gap:16px;margin:8px 0"
_FIGURE: Final = "margin:0;text-align:left"
_IMAGE: Final = "display:block;image-rendering:pixelated"
_ENDS: Final = "display:flex;flex-direction:column;justify-content:space-between;font-size:smaller"
_BOLD: Final = ";font-weight:bold"
_CELL: Final = "text-align:left;vertical-align:top;padding:2px 12px 2px 0"


def result_html(result: Retrieval) -> str:
    """Return a result as HTML: warnings, images with the limits of their greys, and a table."""
    names = [name for name, _ in result.channels()]
    main = [name for name in names if not name.endswith("_std") and not CHANNELS[name].components] or names
    figures = []
    for panel in panels(main)[:_MOST] if result.flags.size else []:
        image = Image.of(panel.pick(result), result.flags, most=_SIDE)
        scale = common_scales([panel], [[image]])[panel.scale]
        figures.append(_figure(panel, image, scale, result.experiment.effective_pixel))
    experiment = result.experiment
    positions = result.provenance.get("positions")
    flags = ", ".join(f"{number} {name}" for name, number in count_flags(result.flags).items())
    findings = warnings_first(result.findings)
    rows = [
        *((record.severity, record.message) for record in findings if record.severity == "warning"),
        ("method", result.method + (f", N = {positions}" if isinstance(positions, int) else "")),
        (
            "size",
            f"{result.shape[0]} × {result.shape[1]} pixels (y × x) of {si(experiment.effective_pixel, 'm')}",
        ),
        (
            "experiment",
            f"{experiment.energy_kev:g} keV, effective distance {si(experiment.effective_distance, 'm')}",
        ),
        ("channels", ", ".join(f"{name} ({CHANNELS[name].unit})" for name in names) or "none"),
        ("flagged pixels", flags or "none"),
        *((record.severity, record.message) for record in findings if record.severity == "note"),
    ]
    return _page("Retrieval", figures, rows, _report_link(result) if figures else "")


def _report_link(result: Retrieval) -> str:
    """Return a link that saves the report page of a result, reduced so that the notebook stays small."""
    size = -(-max(result.shape) // _REPORT_SIDE)
    kept = reduce_result(result, size) if size > 1 else result
    page = base64.b64encode(b"".join(page_pieces([(result.method, kept)]))).decode("ascii")
    less = f" (pixels joined {size} × {size}; xmist.view.report.write_report keeps all)" if size > 1 else ""
    return (
        f'<p><a download="report.html" href="data:text/html;base64,{page}">Save the report page</a>{less}</p>'
    )


def experiment_html(experiment: Experiment) -> str:
    """Return an experiment as HTML: a table of what was stated and what follows from it."""
    source = experiment.source_to_sample
    rows = [
        ("photon energy", f"{experiment.energy_kev:g} keV, wavelength {si(experiment.wavelength, 'm')}"),
        ("beam", "parallel" if source is None else f"cone, from {si(source, 'm')} before the sample"),
        ("magnification", f"{experiment.magnification:.4g}"),
        (
            "pixel",
            f"{si(experiment.pixel_size, 'm')} on the detector, {si(experiment.effective_pixel, 'm')} in the "
            "sample's plane",
        ),
        (
            "distance",
            f"{si(experiment.sample_to_detector, 'm')} to the detector, effective "
            f"{si(experiment.effective_distance, 'm')}",
        ),
    ]
    return _page("Experiment", [], rows)


def stack_html(stack: SpeckleStack) -> str:
    """Return a stack as HTML: its first pair of frames, and a table."""
    weights = stack.weights
    first = None if weights is None else weights[:1]
    images = [
        Image.of(without_masked(frames[:1], first)[0], None, most=_SIDE)
        for frames in (stack.reference, stack.sample)
    ]
    panel = Panel("transmission")  # grey, without unit
    scale = common_scales([panel], [images])[panel.scale]
    figures = [
        _figure(panel, image, scale, title=f"{name} 1")
        for name, image in zip(("reference", "sample"), images, strict=True)
    ]
    pixels = stack.reference.size
    bad = [_without_value(frames, weights) for frames in (stack.reference, stack.sample)]
    ignored = 0 if weights is None else int(np.count_nonzero(weights == 0))
    levels = [_median(frames, weights) for frames in (stack.reference, stack.sample)]
    number = stack.positions
    rows = [
        ("frames", f"{number} position{'s' * (number > 1)}, each without and with the sample"),
        ("size", f"{stack.shape[0]} × {stack.shape[1]} pixels (y × x)"),
        ("median", f"reference {levels[0]:.4g}, sample {levels[1]:.4g}"),
        ("NaN or infinite", f"reference {_share(bad[0], pixels)}, sample {_share(bad[1], pixels)}"),
        ("weight 0", "no weights given" if weights is None else _share(ignored, pixels)),
    ]
    return _page("SpeckleStack", figures, rows)


def _page(title: str, figures: Sequence[str], rows: Iterable[tuple[str, str]], more: str = "") -> str:
    cells = "".join(
        f'<tr><th style="{_CELL}">{html.escape(name)}</th>'
        f'<td style="{_CELL}{_BOLD if name == "warning" else ""}">{html.escape(text)}</td></tr>'
        for name, text in rows
    )
    images = f'<div style="{_ROW}">{"".join(figures)}</div>' if figures else ""
    return f"<div><strong>{title}</strong>{images}<table><tbody>{cells}</tbody></table>{more}</div>"


def _figure(panel: Panel, image: Image, scale: Scale, pixel: float | None = None, title: str = "") -> str:
    """Return an image with its title, colour bar and, where the `pixel` (m) is known, scale bar."""
    title = title or panel.title
    blocks = image.blocks
    assert blocks is not None
    y, x = blocks.shape
    larger = max(1, _SIDE // max(y, x))  # whole pixels, so that a tiny image stays visible
    unit = "" if panel.unit == "1" else f"{PREFIXES[scale.exponent]}{panel.unit}"
    low, high = (f"{limit:.3g}".replace("-", "−") for limit in (scale.low, scale.high))
    bar = ""
    if pixel is not None:
        length = bar_length(x * image.factor * pixel)
        across = round(length / (image.factor * pixel) * larger)
        bar = (
            f'<div style="width:{across}px;border-top:3px solid currentColor;margin-top:4px"></div>'
            f'<small style="white-space:nowrap">{html.escape(si(length, "m"))}</small>'
        )
    name = html.escape(f"{title} ({unit})" if unit else title)
    parts = (blocks * scale.factor - scale.low) / (scale.high - scale.low)
    return (
        f'<figure style="{_FIGURE}"><figcaption>{name}</figcaption>'
        f'<div style="display:flex;gap:4px"><div><img alt="{html.escape(title)}" style="{_IMAGE}" '
        f'width="{x * larger}" height="{y * larger}" '
        f'src="data:image/png;base64,{png_text(parts, panel.colours)}">{bar}</div>'
        f'<div style="width:10px;height:{y * larger}px;background:{_gradient(panel.colours)}"></div>'
        f'<div style="{_ENDS};height:{y * larger}px"><span>{high}</span><span>{low}</span></div>'
        "</div></figure>"
    )


def _gradient(colours: str) -> str:
    """Return a colour map as CSS, from below to above."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    stops = [to_hex(colormaps[colours](part)) for part in np.linspace(0.0, 1.0, _STOPS)]
    return f"linear-gradient(to top,{','.join(stops)})"


def _median(frames: NDArray[np.float32], weights: NDArray[np.float32] | None) -> float:
    looked_at = some(frames)
    used = np.isfinite(looked_at) if weights is None else np.isfinite(looked_at) & (some(weights) > 0)
    return float(np.median(looked_at[used])) if used.any() else float("nan")


def _without_value(frames: NDArray[np.float32], weights: NDArray[np.float32] | None) -> int:
    missing = ~np.isfinite(frames)
    return int(np.count_nonzero(missing if weights is None else missing & (weights > 0)))


def _share(number: int, pixels: int) -> str:
    return f"{number} ({percent(number / pixels)})" if number else "none"
