"""The data of a page: plain data and packed images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.data import CHANNELS, Retrieval, SpeckleStack, channel_of
from xmist.core.experiment import Experiment
from xmist.core.findings import warnings_first
from xmist.core.flags import FLAGS
from xmist.core.version import __version__
from xmist.methods import METHODS
from xmist.view.figures.directions import Directions
from xmist.view.figures.panels import block_means, panels, si
from xmist.view.report.encode import ABOVE, BELOW, FIRST, LAST, NO_VALUE, Codes, pack, png_text, quantise

# Of the unflagged pixels: what the contrast spans at first.
_MIDDLE: Final = (0.005, 0.995)

_FRAME_SIDE: Final = 384  # pixels of a raw frame along its longer side
_RANGE: Final = (0.5, 99.5)  # percent of the raw frames that the contrast spans

# Maps that do not say more than their name, by the name that methods give them.
_DIAGNOSTICS: Final = {
    "residual": ("residual", "residual over its expected noise, rms over the positions"),
    "phase_information": ("information on the phase", "share of the value that comes from the frames"),
    "dark_field_information": (
        "information on the dark-field",
        "share of the value that comes from the frames",
    ),
    "phase_std_noise": ("deviation of the phase by noise", "part of the standard deviation"),
    "phase_std_model": ("deviation of the phase by the model", "part of the standard deviation"),
    "dark_field_std_noise": ("deviation of the dark-field by noise", "part of the standard deviation"),
    "dark_field_std_model": ("deviation of the dark-field by the model", "part of the standard deviation"),
    "transmission_std_noise": ("deviation of the transmission by noise", "part of the standard deviation"),
    "transmission_std_model": (
        "deviation of the transmission by the model",
        "part of the standard deviation",
    ),
}
_SCALED_UNITS: Final = ("m", "rad")
_DERIVED: Final = {
    "wavelength": "m",
    "magnification": "",
    "effective_pixel": "m",
    "effective_distance": "m",
}


# What the page expects of each image.
_PLAIN: Final[Mapping[str, Any]] = {
    "key": "",
    "title": "",
    "about": "",
    "symbol": ["", ""],
    "unit": "",
    "scaled": False,
    "prefix": None,
    "signed": False,
    "group": "image",
    "std": None,
    "free": False,
    "mean": None,
}


@dataclass
class Blocks:
    """Packed images, by the number under which the plain data names them."""

    texts: list[str] = field(default_factory=list)  # base64 of each

    def add(self, codes: NDArray[np.uint16]) -> dict[str, Any]:
        """Pack an image; give what the page needs to find and unpack it.

        `codes` (y, x).
        """
        text, predictor = pack(codes)
        self.texts.append(text)
        return {"block": len(self.texts) - 1, "predictor": predictor}


def describe(name: str, result: Retrieval, blocks: Blocks) -> dict[str, Any]:
    """Return all data of a result."""
    positions = result.provenance.get("positions")
    found: dict[str, Any] = plain(
        {
            "name": name,
            "method": result.method,
            "positions": positions if isinstance(positions, int) else None,
            "conditions": _conditions(result.experiment),
            "size": list(result.shape),
            "pixel": result.experiment.effective_pixel,
            "channels": list(_channels(result, blocks)),
            "derived": list(_derived(result)),
            "direction": _direction(result),
            "flags": _flags(result, blocks),
            "findings": [record.to_dict() for record in warnings_first(result.findings)],
            "convergence": result.provenance.get("convergence"),
            "configuration": _configuration(result),
            "citation": _citation(result.method),
        }
    )
    return found


def describe_frames(stack: SpeckleStack) -> dict[str, Any]:
    """Return raw frames at three positions at most, as small images with one contrast."""
    positions = sorted({0, stack.positions // 2, stack.positions - 1})
    factor = -(-max(stack.shape) // _FRAME_SIDE)
    shown = []
    for role, frames in (("Reference", stack.reference), ("Sample", stack.sample)):
        for position in positions:
            frame = frames[position]
            used = np.isfinite(frame)
            if stack.weights is not None:
                used &= stack.weights[position] > 0
            title = f"{role} frame at position {position}"
            shown.append((title, block_means(frame, used, factor)))
    values = np.concatenate([blocks[np.isfinite(blocks)] for _, blocks in shown])
    low, high = (float(limit) for limit in np.percentile(values, _RANGE)) if values.size else (0.0, 1.0)
    high = high if high > low else low + 1.0
    return {
        "positions": stack.positions,
        "binning": factor,
        "limits": [low, high],
        "columns": len(positions),
        "shown": [
            {
                "title": title,
                "range": _ends(blocks),
                "png": png_text((blocks - low) / (high - low), "gray"),
            }
            for title, blocks in shown
        ],
    }


def _ends(values: NDArray[Any]) -> list[float]:
    """Return the least and the greatest finite value; nothing where there is none."""
    finite = values[np.isfinite(values)]
    return [float(finite.min()), float(finite.max())] if finite.size else []


def plain(value: Any) -> Any:
    """Return data as JSON can hold it; everything else becomes text."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)


def _conditions(experiment: Experiment) -> list[str]:
    source = experiment.source_to_sample
    return [
        f"{experiment.energy_kev:g} keV",
        "parallel beam" if source is None else f"cone beam × {experiment.magnification:.4g}",
        f"effective distance {si(experiment.effective_distance, 'm')}",
        f"pixel {si(experiment.effective_pixel, 'm')}",
    ]


def _channels(result: Retrieval, blocks: Blocks) -> Iterator[dict[str, Any]]:
    """Return each image that the result holds; vectors and tensors by their components."""
    plain_pixels = result.flags == 0
    for panel in panels(name for name, _ in result.channels()):
        if panel.component == "mean":
            continue  # the image of directions shows it
        image = panel.pick(result)
        assert image is not None  # it is one of the result's channels
        base, _, below = CHANNELS[panel.name].symbol.partition("_")
        spread = f"{panel.name}_std"
        yield {
            **_PLAIN,
            "key": f"{panel.name} {panel.component}".strip(),
            "title": panel.title,
            "symbol": [base, panel.component or below],
            "unit": "" if panel.unit == "1" else panel.unit,
            "scaled": panel.unit in _SCALED_UNITS,
            "prefix": panel.exponent,
            "signed": panel.signed,
            "group": "uncertainty" if panel.name.endswith("_std") else "image",
            "std": spread if getattr(result, spread, None) is not None else None,
            # Where the zero of a phase is not known, two are laid over each other without their means.
            "free": panel.name == "phase",
            "zeroed": panel.name == "phase" and result.phase_zero_known,
            "mean": _mean(image) if panel.name == "phase" else None,
            **_image(image, plain_pixels, blocks, signed=panel.signed),
        }
    for name, image in result.diagnostics.items():
        title, about = _DIAGNOSTICS.get(name, (name.replace("_", " "), ""))
        yield {
            **_PLAIN,
            "key": f"diagnostics {name}",
            "title": title,
            "about": about,
            "group": "diagnostic",
            **_image(image, plain_pixels, blocks, signed=False),
        }


def _derived(result: Retrieval) -> Iterator[dict[str, Any]]:
    """Return the derived channels; the page computes them from their source images."""
    distance = result.experiment.effective_distance
    plain_pixels = result.flags == 0
    for name, image in result.derived():
        source, kind, factor = "dark_field", "root", 2.0 / distance
        if name == "visibility_reduction" and result.visibility is not None:
            source, kind, factor = "visibility", "complement", 1.0
        elif name == "visibility_reduction":
            kind, factor = "saturating", distance * (result.speckle_wavenumber or 0.0) ** 2
        channel = channel_of(name)
        yield {
            **_PLAIN,
            "key": name,
            "title": channel.title,
            "about": f"computed from {channel_of(source).symbol}",
            "symbol": [channel.symbol, ""],
            "unit": "" if channel.unit == "1" else channel.unit,
            "scaled": channel.unit in _SCALED_UNITS,
            "prefix": -6 if channel.shown == "µrad" else None,
            "source": source,
            "kind": kind,
            "factor": factor,
            **_stated(quantise(image), plain_pixels, signed=False),
        }


def _image(
    image: NDArray[Any], plain_pixels: NDArray[np.bool_], blocks: Blocks, *, signed: bool
) -> dict[str, Any]:
    found = quantise(image)
    return {**_stated(found, plain_pixels, signed=signed), **blocks.add(found.codes)}


def _stated(found: Codes, plain_pixels: NDArray[np.bool_], *, signed: bool) -> dict[str, Any]:
    """Return scale, range, first contrast and lost pixels of an image."""
    return {
        "low": found.low,
        "step": found.step,
        "range": _values(found, (FIRST, _highest(found))),
        "limits": _limits(found, plain_pixels, signed=signed),
        "outside": int(np.count_nonzero((found.codes == BELOW) | (found.codes == ABOVE))),
        "missing": int(np.count_nonzero(found.codes == NO_VALUE)),
    }


def _mean(image: NDArray[Any]) -> float | None:
    finite = image[np.isfinite(image)]
    return float(np.mean(finite, dtype=np.float64)) if finite.size else None


def _highest(found: Codes) -> int:
    usual = found.codes[found.codes <= LAST]
    return int(usual.max()) if usual.size else FIRST


def _values(found: Codes, codes: tuple[int, int]) -> list[float]:
    return [found.low + (code - FIRST) * found.step for code in codes]


def _limits(found: Codes, plain_pixels: NDArray[np.bool_], *, signed: bool) -> list[float]:
    """Return the values between which the middle of the unflagged pixels lies; of all, if there are none."""
    for codes in (found.codes[plain_pixels], found.codes):
        counts = np.bincount(codes.reshape(-1), minlength=LAST + 1)[: LAST + 1]
        total = np.cumsum(counts)
        if total[-1]:
            break
    else:
        return [0.0, 1.0]
    low, high = (max(FIRST, int(np.searchsorted(total, share * total[-1]))) for share in _MIDDLE)
    values = _values(found, (low, high))
    if signed:
        values = [-max(map(abs, values)), max(map(abs, values))]
    if values[0] == values[1]:
        margin = abs(values[0]) / 2 or 1.0
        values = [values[0] - margin, values[1] + margin]
    return values


def _direction(result: Retrieval) -> dict[str, Any] | None:
    if result.dark_field_tensor is None:
        return None
    return {"brightest": Directions(result).brightest}


def _flags(result: Retrieval, blocks: Blocks) -> dict[str, Any]:
    total = max(1, result.flags.size)
    rows = []
    for flag in FLAGS:
        number = int(np.count_nonzero(result.flags & flag.bit))
        rows.append(
            {
                "bit": flag.bit,
                "name": flag.name.replace("_", " "),
                "meaning": flag.meaning,
                "number": number,
                "share": number / total,
            }
        )
    return {
        "rows": rows,
        "flagged": int(np.count_nonzero(result.flags)),
        "pixels": int(result.flags.size),
        **blocks.add(result.flags),
    }


def _configuration(result: Retrieval) -> dict[str, Any]:
    """Return all settings and their origin, in the order in which they are shown."""
    experiment = result.experiment
    geometry = {name: value for name, value in experiment.to_dict().items() if value is not None}
    derived = {
        f"{name} ({unit})" if unit else name: getattr(experiment, name) for name, unit in _DERIVED.items()
    }
    provenance = {name: value for name, value in result.provenance.items() if name != "convergence"}
    version = provenance.pop("xmist_version", None)
    return {
        "method": result.method,
        "options": dict(result.options),
        "experiment": geometry,
        "what follows from it": derived,
        "provenance": provenance,
        "versions": {"retrieved by xmist": version, "page written by xmist": __version__},
    }


def _citation(name: str) -> list[str]:
    lines = [
        f"The xmist developers, xmist: transmission, phase and dark-field from X-ray speckle images, "
        f"version {__version__}."
    ]
    method = METHODS.get(name)
    if method is not None:
        lines.append(f"Method {name}: {method.citation}, https://doi.org/{method.doi}")
    return lines
