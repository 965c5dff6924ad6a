"""Geometry in the headers of frames: offered with its origin, never used silently."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from xmist.core.errors import InputError
from xmist.core.experiment import Experiment
from xmist.io.frames.sources import Source

# Powers of ten.
_LENGTHS: Final[Mapping[str, int]] = {
    "km": 3,
    "m": 0,
    "cm": -2,
    "mm": -3,
    "um": -6,
    "nm": -9,
    "a": -10,
    "pm": -12,
}
_ENERGIES: Final[Mapping[str, int]] = {"ev": -3, "kev": 0, "mev": 3}
_SPELLINGS: Final[Mapping[str, str]] = {
    word: unit
    for unit, words in {
        "m": "metre meter metres meters",
        "cm": "centimetre centimeter",
        "mm": "millimetre millimeter millimetres millimeters",
        "um": "micrometre micrometer micrometres micrometers micron microns µm μm",
        "nm": "nanometre nanometer",
        "a": "angstrom angstroms ångström å",
    }.items()
    for word in words.split()
}
_NUMBER: Final = re.compile(r"\s*([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*_?\s*(\S*)\s*")


@dataclass(frozen=True)
class Offer:
    """A value of the geometry that a header states."""

    name: str
    value: float
    unit: str
    source: str
    note: str = ""


def offer_geometry(source: Source) -> tuple[Offer, ...]:
    """Return what the header of the first frame says about energy, pixel and distances."""
    header = source.header(0)
    offers = _from_nexus(header, str(source.path)) if _is_nexus(header) else _from_edf(header, source.label)
    return tuple(dict.fromkeys(offer for offer in offers if _is_plausible(offer)))


def to_unit(text: str, unit: str, stated: str | None = None) -> float | None:
    """Convert a header's number to metres or keV."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    spelled = (match.group(2) or stated or unit).strip()
    if spelled == "meV":  # a thousandth, not a million
        return None
    short = _SPELLINGS.get(spelled.lower(), spelled.lower())
    exponent = (_LENGTHS if unit == "m" else _ENERGIES).get(short)
    if exponent is None:
        return None
    number = float(Decimal(match.group(1)).scaleb(exponent))  # 5.8 µm is 5.8e-6 m to the last bit
    return number if 0 < number < math.inf else None


def _is_nexus(header: Mapping[str, str]) -> bool:
    return any(key.startswith("/") for key in header)


def _is_plausible(offer: Offer) -> bool:
    given: dict[str, Any] = {"energy_kev": 17.0, "pixel_size": 5e-6, "sample_to_detector": 1.0}
    try:
        Experiment(**given | {offer.name: offer.value})
    except InputError:
        return False
    return True


def _energy_of(wavelength: float) -> float:
    from scipy import constants

    return float(constants.h * constants.c / (wavelength * 1e3 * constants.e))


def _from_edf(header: Mapping[str, str], label: str) -> Iterator[Offer]:
    """Read the SAXS convention of ESRF: PSize_1, SampleDistance and Wavelength in metres."""
    keys = {key.lower(): key for key in reversed(list(header))}

    def value(name: str, unit: str) -> tuple[float, str] | None:
        key = keys.get(name)
        number = None if key is None else to_unit(header[key], unit)
        return None if number is None or key is None else (number, f"{label}: {key} = {header[key]}")

    magnification = value("magnification", "m")
    yield from _pixels_from_edf(value("psize_1", "m"), value("psize_2", "m"), magnification)
    distance = value("sampledistance", "m")
    if distance is not None:
        yield Offer("sample_to_detector", distance[0], "m", distance[1])
        if magnification is not None and magnification[0] > 1:
            yield Offer(
                "source_to_sample",
                distance[0] / (magnification[0] - 1),
                "m",
                f"{distance[1]}, Magnification = {magnification[0]:g}",
                "follows from both as sample_to_detector/(Magnification − 1)",
            )
    wavelength = value("wavelength", "m")
    if wavelength is not None:
        yield Offer("energy_kev", _energy_of(wavelength[0]), "keV", wavelength[1], "hc/wavelength")


def _pixels_from_edf(
    across: tuple[float, str] | None, down: tuple[float, str] | None, magnification: tuple[float, str] | None
) -> Iterator[Offer]:
    if across is None:
        return
    pixel, origin = across
    note = ""
    if down is not None and not math.isclose(pixel, down[0], rel_tol=1e-3):
        note = f"the pixels are not square ({down[1].partition(': ')[2]}); xmist assumes square pixels"
    if magnification is None or math.isclose(magnification[0], 1.0, rel_tol=1e-6):
        yield Offer("pixel_size", pixel, "m", origin, note)
        return
    times = magnification[0]
    yield Offer(
        "pixel_size",
        pixel * times,
        "m",
        f"{origin} × Magnification = {times:g}",
        _joined(
            "if PSize has been divided by the Magnification, as headers that state one mean it: is "
            f"{pixel * times:.4g} m the detector's own pixel?",
            note,
        ),
    )
    yield Offer(
        "pixel_size",
        pixel,
        "m",
        origin,
        _joined(f"if PSize is the detector's own pixel: is it {pixel:.4g} m?", note),
    )


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _from_nexus(header: Mapping[str, str], path: str) -> Iterator[Offer]:
    """Read what NXdetector, NXsource, NXbeam and NXmonochromator state."""
    for key, text in header.items():
        if "@" in key:
            continue
        group, _, name = key.rpartition("/")
        kind = header.get(f"{group}@NX_class", "")
        stated = header.get(f"{key}@units")
        origin = f"{path}::{key} = {text}{f' {stated}' if stated else ''}"
        guess = "" if stated else "the file states no unit; taken as "
        if name == "x_pixel_size" and kind in ("NXdetector", "NXdetector_module", ""):
            pixel = to_unit(text, "m", stated)
            other = to_unit(
                header.get(f"{group}/y_pixel_size", ""), "m", header.get(f"{group}/y_pixel_size@units")
            )
            note = guess and guess + "m"
            if pixel and other and not math.isclose(pixel, other, rel_tol=1e-3):
                note = _joined(note, f"the pixels are not square (y: {other:.4g} m); xmist takes them so")
            if pixel:
                yield Offer("pixel_size", pixel, "m", origin, note)
        elif name == "distance" and kind in ("NXdetector", "NXsource"):
            length = to_unit(text.lstrip(" -"), "m", stated)  # NeXus counts upstream distances negative
            target = "sample_to_detector" if kind == "NXdetector" else "source_to_sample"
            if length:
                yield Offer(target, length, "m", origin, guess and guess + "m")
        elif name in ("energy", "incident_energy") and kind in ("NXbeam", "NXmonochromator", "NXinstrument"):
            energy = to_unit(text, "keV", stated)
            if energy:
                yield Offer("energy_kev", energy, "keV", origin, guess and guess + "keV")
        elif name in ("wavelength", "incident_wavelength") and kind in ("NXbeam", "NXmonochromator"):
            wavelength = to_unit(text, "m", stated) if stated else None
            if wavelength:
                yield Offer("energy_kev", _energy_of(wavelength), "keV", origin, "hc/wavelength")
