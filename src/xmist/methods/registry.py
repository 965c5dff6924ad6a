"""The table of methods, and the functions `prepare` and `retrieve`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

from numpy.typing import ArrayLike

from xmist.core.data import Retrieval, SampleScan, SpeckleStack
from xmist.core.errors import InputError, raise_errors, suggest
from xmist.core.experiment import Experiment
from xmist.core.options import Option, describe, read_options


@dataclass(frozen=True, kw_only=True)
class Method:
    """Requirements and channels of a method, and what to cite.

    Parameters
    ----------
    name : str
        Name in the literature.
    module : str
        Module with its `OPTIONS` and `prepare`; imported when first used.
    summary : str
        One sentence.
    minimum_positions : int
        Least number N of positions of the diffuser.
    gives : tuple of str
        Channels of the `Retrieval`.
    attenuation : {"no", "yes", "with δ/β"}
        Whether the sample may attenuate.
    directional : bool
        Whether the dark-field can be a tensor.
    sample_stepping : bool
        Whether `retrieve` takes a `SampleScan`.
    whole_image : bool
        Whether it solves for all pixels together.
    cost : float
        Time of a prepared plan in times that of `mist`, measured at N = 10 (benchmarks/RESULTS.md).
    citation : str
        The paper.
    doi : str
        Its DOI.
    """

    name: str
    module: str
    summary: str
    minimum_positions: int
    gives: tuple[str, ...]
    attenuation: Literal["no", "yes", "with δ/β"]
    directional: bool = False
    sample_stepping: bool = False
    whole_image: bool = False
    cost: float
    citation: str
    doi: str

    @property
    def options(self) -> tuple[Option, ...]:
        """The options, with their ranges, defaults and texts."""
        return describe(import_module(self.module).OPTIONS)

    @property
    def delta_over_beta(self) -> Literal["required", "optional", "no"]:
        """Whether the method has the option γ = δ/β, and whether it is required."""
        for option in self.options:
            if option.name == "delta_over_beta":
                return "required" if option.required else "optional"
        return "no"

    @property
    def accepts_initial(self) -> bool:
        """Whether a plan can start from the result of another projection."""
        return any(option.name == "initial" for option in self.options)


_TABLE = (
    Method(
        name="full-field",
        module="xmist.methods.full_field",
        summary=(
            "phase, scalar or directional dark-field and transmission, by the whole equation over the "
            "whole image"
        ),
        minimum_positions=1,
        gives=("phase", "dark_field", "dark_field_tensor", "transmission", "refraction_angle"),
        attenuation="yes",
        directional=True,
        sample_stepping=True,
        whole_image=True,
        cost=200,
        citation="xmist; the equation of Pavlov et al. 2020, J. Opt. 22 125604",
        doi="10.1088/2040-8986/abc313",
    ),
    Method(
        name="mist",
        module="xmist.methods.implicit.mist",
        summary="phase and dark-field of a sample that does not attenuate, one pixel at a time",
        minimum_positions=2,
        gives=("phase", "dark_field", "refraction_angle"),
        attenuation="no",
        cost=1,
        citation="Pavlov et al. 2020, J. Opt. 22 125604",
        doi="10.1088/2040-8986/abc313",
    ),
    Method(
        name="mist-attenuating",
        module="xmist.methods.implicit.mist_attenuating",
        summary="transmission and dark-field of an attenuating sample, and its phase when δ/β is given",
        minimum_positions=2,
        gives=("transmission", "dark_field", "phase", "refraction_angle"),
        attenuation="yes",
        cost=1,
        citation="Alloo et al. 2022, J. Med. Imaging 9 031502",
        doi="10.1117/1.JMI.9.3.031502",
    ),
    Method(
        name="umpa",
        module="xmist.methods.matching.umpa",
        summary="shift, transmission, visibility and scalar or directional dark-field by matching windows",
        minimum_positions=1,
        gives=(
            "phase",
            "transmission",
            "dark_field",
            "dark_field_tensor",
            "refraction_angle",
            "shift",
            "visibility",
        ),
        attenuation="yes",
        directional=True,
        sample_stepping=True,
        cost=40,
        citation="Zdora et al. 2017, Phys. Rev. Lett. 118 203903",
        doi="10.1103/PhysRevLett.118.203903",
    ),
    Method(
        name="xsvt",
        module="xmist.methods.matching.xsvt",
        summary="shift, transmission and visibility by correlating speckle vectors; XST for one position",
        minimum_positions=1,
        gives=("phase", "transmission", "dark_field", "refraction_angle", "shift", "visibility"),
        attenuation="yes",
        sample_stepping=True,
        cost=30,
        citation="Berujon & Ziegler 2016, Phys. Rev. Appl. 5 044014",
        doi="10.1103/PhysRevApplied.5.044014",
    ),
    Method(
        name="mist-gradient-flow",
        module="xmist.methods.implicit.mist_gradient_flow",
        summary="phase and scalar or directional dark-field by the flux of gradients, then refined",
        minimum_positions=2,
        gives=("phase", "dark_field", "dark_field_tensor", "refraction_angle", "transmission"),
        attenuation="with δ/β",
        directional=True,
        cost=6,
        citation="idea of Liu et al. 2025, arXiv:2508.20209; the equations of xmist",
        doi="10.48550/arXiv.2508.20209",
    ),
    Method(
        name="mist-directional",
        module="xmist.methods.implicit.mist_directional",
        summary="phase and directional dark-field of a sample that does not attenuate, or whose δ/β is known",
        minimum_positions=4,
        gives=("phase", "dark_field", "dark_field_tensor", "refraction_angle", "transmission"),
        attenuation="with δ/β",
        directional=True,
        cost=2,
        citation="Pavlov et al. 2021, Phys. Rev. A 104 053505",
        doi="10.1103/PhysRevA.104.053505",
    ),
    Method(
        name="mist-rapid",
        module="xmist.methods.implicit.mist_rapid",
        summary="phase and rapidly varying dark-field; with δ/β also of a sample that attenuates",
        minimum_positions=4,
        gives=("phase", "dark_field", "refraction_angle", "transmission"),
        attenuation="with δ/β",
        cost=3,
        citation="Alloo et al. 2023, Sci. Rep. 13 5424",
        doi="10.1038/s41598-023-31574-z",
    ),
    Method(
        name="lcs",
        module="xmist.methods.implicit.lcs",
        summary="transmission, refraction and (optional) scalar or directional dark-field, without δ/β",
        minimum_positions=3,
        gives=(
            "transmission",
            "phase",
            "refraction_angle",
            "shift",
            "dark_field",
            "dark_field_tensor",
        ),
        attenuation="yes",
        directional=True,
        cost=2,
        citation="Quénot et al. 2021, Optica 8 1412; Magnin et al. 2023, Opt. Lett. 48 5839",
        doi="10.1364/OPTICA.434954",
    ),
    Method(
        name="optical-flow",
        module="xmist.methods.implicit.optical_flow",
        summary="phase of a sample that only refracts, by the flow between two whole images",
        minimum_positions=1,
        gives=("phase", "refraction_angle", "transmission"),
        attenuation="no",
        cost=1.5,
        citation="Paganin et al. 2018, Phys. Rev. A 98 053813",
        doi="10.1103/PhysRevA.98.053813",
    ),
    Method(
        name="single-material",
        module="xmist.methods.implicit.single_material",
        summary="transmission and phase of a sample of one material whose δ/β is known",
        minimum_positions=1,
        gives=("transmission", "phase", "refraction_angle"),
        attenuation="yes",
        cost=1,
        citation="Pavlov et al. 2020, Phys. Rev. Applied 13 054023",
        doi="10.1103/PhysRevApplied.13.054023",
    ),
    Method(
        name="single-exposure",
        module="xmist.methods.implicit.single_exposure",
        summary="transmission and phase as by single-material, and a qualitative dark-field of either sign",
        minimum_positions=1,
        gives=("transmission", "phase", "dark_field", "refraction_angle"),
        attenuation="yes",
        cost=1.5,
        citation="Beltran et al. 2023, Optica 10 422; Alloo et al. 2025, Opt. Express 33 3577",
        doi="10.1364/OPTICA.480489",
    ),
)

_METHODS: Final = {method.name: method for method in _TABLE}
METHODS: Final[Mapping[str, Method]] = MappingProxyType(_METHODS)
DEFAULT_METHOD: Final = "full-field"
# For previews: fast, also from one position, and right where the sample attenuates.
FAST_METHOD: Final = "lcs"
FAST_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType({"window": 7})


def register_method(method: Method) -> None:
    """Make a method known to Python, the configuration, the command line, comparisons and reports.

    Parameters
    ----------
    method : Method
        Its `module` must be importable, also in worker processes.
    """
    _METHODS[method.name] = method


class Plan(Protocol):
    """A method prepared for a reference; call it with the sample frames of each projection."""

    def __call__(self, sample: ArrayLike, *, weights: ArrayLike | None = None) -> Retrieval:
        """Retrieve one projection from its (position, y, x) sample frames."""
        ...


def least_positions(name: str, options: Mapping[str, Any]) -> int:
    """Return the least number of positions that a method needs with these options.

    >>> least_positions("lcs", {}), least_positions("lcs", {"window": 9})
    (3, 1)
    """
    least = METHODS[name].minimum_positions
    try:
        return int(getattr(make_options(name, options), "minimum_positions", least))
    except InputError:  # reported where the options are read
        return least


def is_quick_look(options: Mapping[str, Any]) -> bool:
    """Return whether options leave out pixels, so that the result is smaller than the frames.

    >>> is_quick_look({"window": 7}), is_quick_look({"window": 7, "stride": 4})
    (False, True)
    """
    return options.get("region") is not None or options.get("stride", 1) != 1


def find_method(name: str) -> Method:
    """Return the method of that name; InputError with the nearest name for an unknown one."""
    if name not in METHODS:
        raise InputError(f"unknown method '{name}'; {suggest(str(name), METHODS)}", "method-unknown")
    return METHODS[name]


def make_options(method: str, options: Mapping[str, Any]) -> Any:
    """Return a method's frozen options; InputError lists all unknown, missing and invalid ones.

    Examples
    --------
    >>> make_options("mist", {"smoothing": 2.0}).smoothing
    2.0
    """
    kind = import_module(find_method(method).module).OPTIONS
    made, errors = read_options(kind, options, owner=method)
    raise_errors(errors)
    return made


def prepare(
    reference: ArrayLike,
    experiment: Experiment,
    *,
    method: str = DEFAULT_METHOD,
    weights: ArrayLike | None = None,
    threads: int | None = None,
    **options: Any,
) -> Plan:
    """Prepare a method for reference frames: do once what does not depend on the sample frames.

    Parameters
    ----------
    reference : (position, y, x) array_like
        Frames without the sample.
    experiment : Experiment
        Energy and geometry.
    method : str
        Name of a method, see `xmist.METHODS`.
    weights : (position, y, x) array_like, optional
        Weight of each pixel; 0 means that it is ignored.
    threads : int, optional
        Number of threads; None uses one for each core that the process may use. The result does not depend on
        it.
    **options : object
        Options of the method, such as `smoothing=2.0`.

    Returns
    -------
    Plan
        Call it with the sample frames of a projection: `plan(sample) -> Retrieval`.

    Raises
    ------
    InputError
        Lists all errors of the frames, the method's name and its options.

    Examples
    --------
    >>> import numpy as np, xmist
    >>> reference = np.random.default_rng(1).uniform(1, 2, (2, 32, 32))
    >>> experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
    >>> plan = xmist.prepare(reference, experiment, method="mist")
    >>> float(abs(plan(reference).dark_field).max())
    0.0
    """
    entry = find_method(method)
    plan: Plan = import_module(entry.module).prepare(
        reference, experiment, make_options(method, options), weights=weights, threads=threads
    )
    return plan


def retrieve(
    stack: SpeckleStack | SampleScan,
    experiment: Experiment,
    *,
    method: str = DEFAULT_METHOD,
    threads: int | None = None,
    **options: Any,
) -> Retrieval:
    """Retrieve the image channels of one projection.

    Parameters
    ----------
    stack : SpeckleStack or SampleScan
        Reference and sample frames; of a sample that moves for methods with `sample_stepping`.
    experiment : Experiment
        Energy and geometry.
    method : str
        Name of a method, see `xmist.METHODS`.
    threads : int, optional
        Number of threads; None uses one for each core that the process may use. The result does not depend on
        it.
    **options : object
        Options of the method, such as `smoothing=2.0`.

    Returns
    -------
    Retrieval
        The channels that the method determines, in SI units.

    Raises
    ------
    InputError
        Lists all errors of the frames, the method's name and its options.

    Examples
    --------
    >>> import numpy as np, xmist
    >>> reference = np.random.default_rng(1).uniform(1, 2, (2, 32, 32))
    >>> stack = xmist.SpeckleStack(reference, reference)
    >>> experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
    >>> xmist.retrieve(stack, experiment, method="mist").findings[0].code
    'identical-frames'
    """
    if isinstance(stack, SampleScan):
        return _retrieve_scan(stack, experiment, method, threads, options)
    plan = prepare(
        stack.reference, experiment, method=method, weights=stack.weights, threads=threads, **options
    )
    return plan(stack.sample)


def check_sample_stepping(method: str) -> None:
    """Check that a method takes frames of a sample that moves; InputError with those that do."""
    if not find_method(method).sample_stepping:
        able = ", ".join(entry.name for entry in METHODS.values() if entry.sample_stepping)
        raise InputError(
            f"{method} takes no frames of a sample that moves (SampleScan, sample_positions); use {able}",
            "sample-positions-unsupported",
        )


def _retrieve_scan(
    scan: SampleScan, experiment: Experiment, method: str, threads: int | None, options: Mapping[str, Any]
) -> Retrieval:
    """Retrieve the whole field of a sample that moves."""
    from xmist.methods.common.alignment import refine_sample_positions, report_refined
    from xmist.methods.common.sample_stepping import retrieve_field
    from xmist.methods.matching.region import cut, region_box

    check_sample_stepping(method)

    parsed = make_options(method, options)
    own = ("refine_positions", "region", "stride")  # of the field, not of its layers
    rest = {name: value for name, value in options.items() if name not in own}

    whole = METHODS[method].whole_image

    def solve(stack: SpeckleStack, start: Retrieval | None = None) -> Retrieval:
        # What is continued beyond a frame has no weight, but counts where the reference is prepared.
        weights = None if whole else stack.weights
        plan: Any = prepare(
            stack.reference, experiment, method=method, weights=weights, threads=threads, **rest
        )
        if not whole:
            return plan(stack.sample)  # type: ignore[no-any-return]
        return plan(stack.sample, weights=stack.weights, initial=start)  # type: ignore[no-any-return]

    refine = getattr(parsed, "refine_positions", False)
    refined = refine_sample_positions(scan, solve, parsed.window) if refine else scan
    result = retrieve_field(refined, solve, continued=whole)
    if refine:
        change = refined.sample_positions - scan.sample_positions
        record = {"sample_positions_given": scan.sample_positions.tolist()}
        result = report_refined(result, "positions of the sample", change, record)
    if not is_quick_look(options):
        return replace(result, options=parsed.plain())
    box = region_box(parsed, result.shape, experiment)
    return cut(result, box, parsed, origin=result.provenance["grid_origin"])
