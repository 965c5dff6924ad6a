"""The frames of one projection, `SpeckleStack` or `SampleScan`, and the result, `Retrieval`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xmist.core.arrays import Image, as_frames, as_image, as_weights, frozen
from xmist.core.errors import ErrorRecord, InputError, raise_errors
from xmist.core.experiment import Experiment
from xmist.core.findings import Finding
from xmist.core.hooks import hook

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Channel:
    """Name, unit and symbol of an image channel of a `Retrieval`.

    Parameters
    ----------
    unit : str
        SI unit as files carry it; "1" for a pure number.
    title : str
        Name in figures and reports.
    symbol : str
        Symbol in equations.
    components : tuple of str
        Names along the first axis; empty for a plain (y, x) image.
    shown : str
        Unit in which people read it, such as "µrad"; empty: the SI unit with a prefix that suits the values.
    """

    unit: str
    title: str
    symbol: str
    components: tuple[str, ...] = ()
    shown: str = ""


CHANNELS: Final[Mapping[str, Channel]] = MappingProxyType(
    {
        "phase": Channel("rad", "phase", "φ"),
        "transmission": Channel("1", "transmission", "T"),
        "dark_field": Channel("m", "dark-field", "D"),
        "dark_field_tensor": Channel("m", "dark-field tensor", "D_ij", ("xx", "xy", "yy")),
        "refraction_angle": Channel("rad", "refraction angle", "α", ("x", "y"), "µrad"),
        "shift": Channel("pixel", "speckle shift", "u", ("x", "y")),
        "visibility": Channel("1", "visibility", "V"),
        "phase_std": Channel("rad", "standard deviation of the phase", "σ_φ"),
        "transmission_std": Channel("1", "standard deviation of the transmission", "σ_T"),
        "dark_field_std": Channel("m", "standard deviation of the dark-field", "σ_D"),
    }
)

# What follows from the channels of a result; see `Retrieval.derived`.
DERIVED: Final[Mapping[str, Channel]] = MappingProxyType(
    {
        "scattering_angle": Channel("rad", "rms scattering angle", "θ", shown="µrad"),
        "visibility_reduction": Channel("1", "visibility reduction", "1 − V"),
    }
)


def channel_of(name: str) -> Channel:
    """Return name, unit and symbol of a channel or of a derived one."""
    return CHANNELS[name] if name in CHANNELS else DERIVED[name]


class _Sized:
    """Sample frames (position, y, x), their number and size."""

    sample: Image

    @property
    def positions(self) -> int:
        """Number N of positions, of the diffuser or of the sample."""
        return int(self.sample.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Size (y, x) of a frame in pixels."""
        return (int(self.sample.shape[1]), int(self.sample.shape[2]))


@dataclass(frozen=True, eq=False)
class SpeckleStack(_Sized):
    """Pairs of frames, without and with the sample, at N positions of the diffuser.

    Parameters
    ----------
    reference : (position, y, x) array_like
        Frames without the sample; any unit that is the same in both.
    sample : (position, y, x) array_like
        Frames with the sample, in the order of the reference.
    weights : (position, y, x) array_like, optional
        Weight of each pixel; 0 means that it is ignored, and its value then does not matter.

    Raises
    ------
    InputError
        Lists all errors of shape, dtype and weights at once, or says that no pixel is usable.

    Notes
    -----
    Frames are kept as read-only float32. The arrays given are never modified, and are used without a copy
    where they are float32 and contiguous already. NaN, infinities and a reference at or
    below 0 stay in the frames; the methods give them weight 0 and flag them.

    Examples
    --------
    >>> import numpy as np
    >>> frames = np.random.default_rng(1).uniform(1, 2, (2, 16, 20))
    >>> stack = SpeckleStack(frames, frames)
    >>> stack.positions, stack.shape
    (2, (16, 20))
    """

    reference: Image
    sample: Image
    weights: Image | None = None

    if TYPE_CHECKING:  # arguments may be of other types than what is kept

        def __init__(
            self, reference: ArrayLike, sample: ArrayLike, weights: ArrayLike | None = None
        ) -> None: ...

    def __post_init__(self) -> None:
        errors: list[ErrorRecord] = []
        reference = as_frames("reference", self.reference, errors)
        sample = as_frames("sample", self.sample, errors)
        weights = None
        if reference is not None and sample is not None:
            if reference.shape[0] != sample.shape[0]:
                text = (
                    f"{reference.shape[0]} reference frames and {sample.shape[0]} sample frames; expected "
                    "one of each for every position of the diffuser"
                )
                errors.append(ErrorRecord("frames-unequal-numbers", text))
            errors += _size_errors(reference, sample)
        if self.weights is not None:
            like = reference if reference is not None else sample
            if like is not None:
                weights = as_weights("weights", self.weights, like.shape, errors)
        if not errors and reference is not None and sample is not None:
            text = _nothing_usable(reference, sample, weights)
            errors += [ErrorRecord("pixels-unusable", text)] if text else []
        raise_errors(errors)
        object.__setattr__(self, "reference", reference)
        object.__setattr__(self, "sample", sample)
        object.__setattr__(self, "weights", weights)

    def _repr_html_(self) -> str:
        return str(hook("stack html")(self))


@dataclass(frozen=True, eq=False)
class SampleScan(_Sized):
    """Frames of a sample that moves by known amounts, while the diffuser stays (sample stepping).

    Parameters
    ----------
    reference : (y, x) or (position, y, x) array_like
        One frame without the sample, or one for each position of the sample.
    sample : (position, y, x) array_like
        Frames with the sample at N positions.
    sample_positions : (position, 2) array_like
        Position (y, x) of the sample in effective pixels; + means that it moves to +y, +x. Fractions are
        allowed. Only differences matter.
    weights : (position, y, x) array_like, optional
        Weight of each pixel; 0 means that it is ignored, and its value then does not matter.

    Raises
    ------
    InputError
        Lists all errors of shape, dtype, weights and positions, also frames that overlap no other.

    Notes
    -----
    `xmist.retrieve` takes it in place of a `SpeckleStack`. The result lies on the sample's own grid, with the
    number of frames that see each pixel as `diagnostics["coverage"]`: frames may overlap in part, so that the
    field of view grows.

    Examples
    --------
    >>> import numpy as np
    >>> frames = np.random.default_rng(1).uniform(1, 2, (3, 16, 20))
    >>> scan = SampleScan(frames[0], frames, [(0, 0), (0, 5.5), (0, 11)])
    >>> scan.positions, scan.shape
    (3, (16, 20))
    """

    reference: Image
    sample: Image
    sample_positions: NDArray[np.float64]
    weights: Image | None = None

    if TYPE_CHECKING:  # arguments may be of other types than what is kept

        def __init__(
            self,
            reference: ArrayLike,
            sample: ArrayLike,
            sample_positions: ArrayLike,
            weights: ArrayLike | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        errors: list[ErrorRecord] = []
        given: Any = self.reference
        reference = as_frames("reference", given if np.ndim(given) != 2 else np.asarray(given)[None], errors)
        sample = as_frames("sample", self.sample, errors)
        weights = positions = None
        if sample is not None:
            positions = as_sample_positions(self.sample_positions, sample.shape, errors)
            if self.weights is not None:
                weights = as_weights("weights", self.weights, sample.shape, errors)
        if reference is not None and sample is not None:
            if len(reference) not in (1, len(sample)):
                text = (
                    f"{len(reference)} reference frames and {len(sample)} sample frames; expected one "
                    "reference frame, or one for every position of the sample"
                )
                errors.append(ErrorRecord("frames-unequal-numbers", text))
            errors += _size_errors(reference, sample)
            if not errors:
                text = _nothing_usable(np.broadcast_to(reference, sample.shape), sample, weights)
                errors += [ErrorRecord("pixels-unusable", text)] if text else []
        raise_errors(errors)
        object.__setattr__(self, "reference", reference)
        object.__setattr__(self, "sample", sample)
        object.__setattr__(self, "sample_positions", positions)
        object.__setattr__(self, "weights", weights)


def _size_errors(reference: Image, sample: Image) -> list[ErrorRecord]:
    if reference.shape[1:] == sample.shape[1:]:
        return []
    text = (
        f"reference frames of {reference.shape[1:]} pixels and sample frames of {sample.shape[1:]} pixels "
        "(y, x); expected equal sizes"
    )
    return [ErrorRecord("shape-mismatch", text)]


def as_sample_positions(
    given: Any, shape: tuple[int, ...], errors: list[ErrorRecord]
) -> NDArray[np.float64] | None:
    """Return positions (position, 2) in pixels; None with an error if they do not fit frames of `shape`."""
    try:
        positions = np.array(given, np.float64)
    except (TypeError, ValueError):
        positions = np.full((1, 1), np.nan)
    number = shape[0]
    if positions.shape != (number, 2) or not np.isfinite(positions).all():
        found = f"{len(positions)}" if positions.ndim == 2 and positions.shape[1] == 2 else "other values"
        text = (
            f"sample_positions are {found} for {number} sample frames; expected two finite numbers (y, x) in "
            "pixels for each"
        )
        errors.append(ErrorRecord("sample-positions-invalid", text))
        return None
    near = np.all(np.abs(positions[:, None] - positions[None]) < np.array(shape[1:]), axis=2, keepdims=True)
    joined = near[0, :, 0]
    while np.any(reached := near[joined, :, 0].any(axis=0) & ~joined):
        joined = joined | reached
    if not joined.all():
        text = (
            f"the sample frame of position {int(np.argmin(joined))} does not overlap with those of position "
            "0 and its neighbours; expected sample_positions (y, x) in pixels, closer than a frame"
        )
        errors.append(ErrorRecord("sample-positions-apart", text))
    positions.flags.writeable = False
    return positions


def _nothing_usable(reference: Image, sample: Image, weights: Image | None) -> str:
    """Return why no pixel of any pair can be used; empty if one can."""
    for n in range(len(reference)):
        good = np.isfinite(reference[n]) & (reference[n] > 0) & np.isfinite(sample[n])
        if weights is not None:
            good &= weights[n] > 0
        if good.any():
            return ""
    if weights is not None and not (weights > 0).any():
        return "weights are 0 everywhere; expected weights above 0 at some pixels"
    if not (np.isfinite(reference) & (reference > 0)).any():
        return "reference has no finite positive pixel; expected intensities above 0"
    if not np.isfinite(sample).any():
        return "sample has no finite pixel; expected intensities"
    return (
        "no pixel is usable in both frames of any pair; expected pixels with weight above 0 in both (check "
        "weights and NaN)"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Retrieval:
    """The image channels that a method retrieved, with flags, findings and provenance.

    Parameters
    ----------
    method : str
        Name of the method.
    experiment : Experiment
        Energy and geometry.
    flags : (y, x) uint16 array
        Quality flags, see `xmist.FLAGS`; 0 is an ordinary pixel.
    options : mapping
        All options of the method as plain data.
    findings : tuple of Finding
        What was noticed about frames and result, each with a code, a severity and a message.
    provenance : mapping
        Plain data on the origin of the result: version, names and hashes of the input, number of positions.
    phase : (y, x) float32 array, optional
        Phase φ in rad, negative for matter.
    transmission : (y, x) float32 array, optional
        Transmission T.
    dark_field : (y, x) float32 array, optional
        Effective diffusion coefficient D in m; trace/2 where a tensor was retrieved.
    dark_field_tensor : (3, y, x) float32 array, optional
        D_xx, D_xy, D_yy in m.
    refraction_angle : (2, y, x) float32 array, optional
        ∇φ/k along x and y in rad.
    shift : (2, y, x) float32 array, optional
        Shift of the speckles along x and y in pixels.
    visibility : (y, x) float32 array, optional
        Visibility of the sample frames over that of the reference frames.
    phase_std, transmission_std, dark_field_std : (y, x) float32 array, optional
        Standard deviations in the unit of their channel, when uncertainty was asked for.
    diagnostics : mapping of str to (y, x) float32 array
        Maps that show how reliable the channels are, by name; each method has its own.

    Notes
    -----
    A channel that a method does not determine is None. A pixel is NaN only where its flag says that
    nothing determined it.

    Examples
    --------
    >>> import numpy as np
    >>> experiment = Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
    >>> flags = np.zeros((8, 9), np.uint16)
    >>> result = Retrieval(method="mist", experiment=experiment, flags=flags, phase=np.zeros((8, 9)))
    >>> result.shape, [name for name, _ in result.channels()]
    ((8, 9), ['phase'])
    """

    method: str
    experiment: Experiment
    flags: NDArray[np.uint16]
    options: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    phase: Image | None = None
    transmission: Image | None = None
    dark_field: Image | None = None
    dark_field_tensor: Image | None = None
    refraction_angle: Image | None = None
    shift: Image | None = None
    visibility: Image | None = None
    phase_std: Image | None = None
    transmission_std: Image | None = None
    dark_field_std: Image | None = None
    diagnostics: Mapping[str, Image] = field(default_factory=dict)

    def __post_init__(self) -> None:
        flags = np.asarray(self.flags)
        errors: list[ErrorRecord] = []

        def mismatch(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
            text = f"{name} has shape {shape}; expected {expected}"
            errors.append(ErrorRecord("shape-mismatch", text))

        if flags.ndim != 2 or flags.dtype != np.uint16:
            text = f"flags are {flags.dtype} of shape {flags.shape}; expected uint16 (y, x)"
            errors.append(ErrorRecord("array-invalid", text))
        for name, channel in CHANNELS.items():
            given = getattr(self, name)
            if given is None:
                continue
            array = as_image(name, given, errors)
            shape = ((len(channel.components),) if channel.components else ()) + flags.shape
            if array is None:
                continue
            if array.shape != shape:
                mismatch(name, array.shape, shape)
            object.__setattr__(self, name, frozen(array))
        maps: dict[str, Image] = {}
        diagnostics: Any = self.diagnostics
        if not isinstance(diagnostics, Mapping):
            text = f"diagnostics are {type(diagnostics).__name__}; expected a mapping of images"
            errors.append(ErrorRecord("value-invalid", text))
            diagnostics = {}
        for name, given in diagnostics.items():
            if not str(name).isidentifier():
                text = f"diagnostics have {str(name)!r}; expected names of letters, digits and _"
                errors.append(ErrorRecord("value-invalid", text))
            array = as_image(f"diagnostics['{name}']", given, errors)
            if array is not None and array.shape != flags.shape:
                mismatch(f"diagnostics['{name}']", array.shape, flags.shape)
            elif array is not None:
                maps[str(name)] = frozen(array)
        raise_errors(errors)
        object.__setattr__(self, "diagnostics", MappingProxyType(maps))
        object.__setattr__(self, "flags", frozen(flags))
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))
        object.__setattr__(self, "findings", tuple(self.findings))

    def __getstate__(self) -> dict[str, Any]:
        # A mapping proxy cannot be pickled; a dict can.
        state = {item.name: getattr(self, item.name) for item in fields(self)}
        return state | {name: dict(state[name]) for name in ("options", "provenance", "diagnostics")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __repr__(self) -> str:
        names = ", ".join(name for name, _ in self.channels()) or "no channel"
        return f"<Retrieval by {self.method}: {names}; {self.shape[0]} × {self.shape[1]} pixels (y × x)>"

    def _repr_html_(self) -> str:
        return str(hook("result html")(self))

    @property
    def shape(self) -> tuple[int, int]:
        """Size (y, x) in pixels."""
        return (int(self.flags.shape[0]), int(self.flags.shape[1]))

    @property
    def phase_zero_known(self) -> bool:
        """Whether the phase is 0 in bare beam, or where the transmission is 1; else its mean is 0."""
        known = ("phase-zero-bare-beam", "phase-zero-transmission")
        return any(record.code in known for record in self.findings)

    def channels(self) -> Iterator[tuple[str, Image]]:
        """Yield name and array of every channel that the method determined, in a fixed order."""
        for name in CHANNELS:
            array = getattr(self, name)
            if array is not None:
                yield name, array

    def derived(self) -> Iterator[tuple[str, Image]]:
        """Yield name and array of what follows from the channels: scattering angle, visibility reduction."""
        for name in DERIVED:
            array = getattr(self, name)
            if array is not None:
                yield name, array

    @property
    def scattering_angle(self) -> Image | None:
        """Rms scattering angle √(2D/∆) in rad, (y, x); −√(2|D|/∆) where noise makes D negative."""
        if self.dark_field is None:
            return None
        with np.errstate(all="ignore"):
            ratio = self.dark_field * np.float32(2.0 / self.experiment.effective_distance)
            angle: Image = np.copysign(np.sqrt(np.abs(ratio)), ratio)
        return angle

    @property
    def visibility_reduction(self) -> Image | None:
        """1 − V, (y, x): of the visibility where the method measures it, else V = 1/(1 + ∆ D κ_s²).

        Not clipped. None without a dark-field, or where κ_s is not known.
        """
        if self.visibility is not None:
            with np.errstate(invalid="ignore"):
                return np.float32(1.0) - self.visibility
        wavenumber = self.speckle_wavenumber
        if self.dark_field is None or wavenumber is None:
            return None
        with np.errstate(all="ignore"):
            blur = self.dark_field * np.float32(self.experiment.effective_distance * wavenumber**2)
            return blur / (np.float32(1.0) + blur)

    @property
    def speckle_wavenumber(self) -> float | None:
        """Rms wavenumber κ_s of the reference's speckles in rad/m in the sample's plane; None if unknown."""
        value = self.provenance.get("speckle_wavenumber")
        return float(value) if isinstance(value, float) else None

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the result to a file; the ending decides the format.

        Parameters
        ----------
        path : str or Path
            `.h5`, `.hdf5` or `.nxs`: everything, as NeXus HDF5. `.tif` or `.tiff`: one float32 ImageJ
            file a channel, its name added to the stem, and the flags. `.png`, `.pdf`, `.svg`: one figure.
        overwrite : bool
            Replace a file that stands there already.

        Returns
        -------
        Path
            The file; for TIFF the first of them.

        Raises
        ------
        InputError
            For an unknown ending, a missing folder, or a file that stands there already.
        OutputError
            When writing failed; says what was kept and where.

        Examples
        --------
        >>> result.save("result.h5")  # doctest: +SKIP
        PosixPath('result.h5')
        """
        drawn = Path(path).suffix.lower() in (".png", ".pdf", ".svg")
        saved: Path = hook("save figure" if drawn else "save result")(self, path, overwrite=overwrite)
        return saved

    def to_xarray(self) -> xarray.Dataset:
        """Return the result as a dataset with axes in metres (needs the extra `xmist[xarray]`).

        Returns
        -------
        xarray.Dataset
            One variable for each channel, and for each that is derived (`scattering_angle`,
            `visibility_reduction`), with its unit; coordinates y and x in metres in the sample's plane.

        Raises
        ------
        InputError
            If xarray is not installed.

        Examples
        --------
        >>> result.to_xarray()["phase"].attrs["units"]  # doctest: +SKIP
        'rad'
        """
        try:
            import xarray
        except ImportError:
            raise InputError(
                'to_xarray needs xarray; install it with: pip install "xmist[xarray]"', "package-missing"
            ) from None
        pixel = self.experiment.effective_pixel
        variables: dict[str, Any] = {}
        coordinates: dict[str, Any] = {
            axis: (
                axis,
                np.arange(size) * pixel,
                {"units": "m", "long_name": f"{axis} in the sample's plane"},
            )
            for axis, size in zip("yx", self.shape, strict=True)
        }
        for name, array in (*self.channels(), *self.derived()):
            channel = channel_of(name)
            attributes = {"units": channel.unit, "long_name": channel.title, "symbol": channel.symbol}
            if channel.components:
                axis = "tensor" if name == "dark_field_tensor" else "direction"
                coordinates[axis] = (axis, list(channel.components))
                variables[name] = ((axis, "y", "x"), array, attributes)
            else:
                variables[name] = (("y", "x"), array, attributes)
        variables["flags"] = (("y", "x"), self.flags, {"long_name": "quality flags"})
        return xarray.Dataset(variables, coordinates, {"method": self.method, **self.experiment.to_dict()})
