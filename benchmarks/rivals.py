"""xmist beside other programs, each at its best setting.

    python benchmarks/rivals.py run 0 12 FILE [--experiments EXPERIMENTS.py] [--programs NAMES]
    python benchmarks/rivals.py table FILE
    python benchmarks/rivals.py measured CONFIG.toml [--programs NAMES]
    python benchmarks/rivals.py speed [--size 1024] [--positions 1]
    python benchmarks/rivals.py check

Install the programs by name first, into an environment of their own that also has xmist:
`pip install wf-suite six lcs-retrieval spexwavepy algotom`. Those that are missing are left out.

`run` retrieves random experiments (those of `distribution.py`, or of a file with its functions `draw` and
`make`), with every program at every setting, and appends one JSON line for each. `table` prints for each
program the errors at its best setting, chosen for each experiment with the truth in hand, which favours
programs with a setting; and the sweep, as medians. `measured` prints contrast-to-noise ratios and angular
sensitivities of measured frames. `speed` starts a process for each program. `check` moves simulated speckles
by known shifts, and prints how far each program is off: the conventions of a program may change.

Each program returns shifts, which one solver integrates for all; where it gives a visibility V,
D = (1/V − 1)/(∆κ²) as for `umpa`. Errors are rms errors over the standard deviation of the
truth, 16 pixels away from the border, of φ without its mean.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage as ndi

import distribution
import xmist
from xmist.evaluate.metrics import angular_sensitivity, cnr
from xmist.evaluate.regions import make_regions
from xmist.numerics.solvers.integrate import integrate

Array = np.ndarray
NUMBERS = (1, 2, 6)
MARGIN = 16  # pixels at the border that are not scored
SEARCH = 4  # pixels that matching programs search


@dataclass(frozen=True)
class Images:
    """What a program retrieves: φ in rad, angles (x, y) in rad, D in m."""

    phase: Array
    angle: Array
    dark: Array | None = None


@dataclass(frozen=True)
class Program:
    """A program with the settings that are tried."""

    run: Callable[..., Images]  # of a stack, an experiment and a setting
    settings: Sequence[Any]
    positions: Callable[[int], bool]
    module: str = "xmist"


def by_method(name: str, option: str = "", **options: Any) -> Callable[..., Images]:
    """Return a program that is a method of xmist, with an option as the setting."""

    def run(stack: xmist.SpeckleStack, experiment: xmist.Experiment, setting: Any) -> Images:
        given = options | ({option: setting} if option else {})
        result = xmist.retrieve(stack, experiment, method=name, **given)
        return Images(result.phase, result.refraction_angle, result.dark_field)

    return run


def by_shift(find: Callable[..., tuple[Array, Array | None]]) -> Callable[..., Images]:
    """Return a program that finds shifts (x, y) in pixels, and ∆D/p² or nothing, perhaps without a border."""

    def run(stack: xmist.SpeckleStack, experiment: xmist.Experiment, setting: Any) -> Images:
        with contextlib.redirect_stdout(io.StringIO()):
            shift, dark = find(stack.reference.astype(np.float32), stack.sample.astype(np.float32), setting)
        pixel, distance = experiment.effective_pixel, experiment.effective_distance
        shift = np.stack([filled(part, stack.shape) for part in shift])
        factor = experiment.wavenumber * pixel**2 / distance
        phase = integrate(factor * shift)
        if dark is not None:
            dark = filled(dark, stack.shape) * pixel**2 / distance
        return Images(phase, shift * pixel / distance, dark)

    return run


def filled(image: Array, shape: tuple[int, int]) -> Array:
    """Return an image on the whole frame; what a program leaves out or cannot do has the nearest value."""
    rows, columns = (whole - part for whole, part in zip(shape, image.shape, strict=True))
    before = rows // 2, columns // 2
    padded = np.pad(
        np.asarray(image, float),
        ((before[0], rows - before[0]), (before[1], columns - before[1])),
        constant_values=np.nan,
    )
    bad = ~np.isfinite(padded) | (np.abs(padded) > 1e3)
    nearest = ndi.distance_transform_edt(bad, return_distances=False, return_indices=True)
    return padded[tuple(nearest)]


def from_visibility(visibility: Array, reference: Array, window: int) -> Array:
    """Return ∆D/p² for a visibility, by the roughness of the references in the same window."""

    def average(image: Array) -> Array:
        return ndi.uniform_filter(image.astype(float), (0, window, window)).mean(axis=0)

    ky, kx = (2 * np.pi * np.fft.fftfreq(size) for size in reference.shape[1:])
    square = ky[:, None] ** 2 + kx**2
    curved = np.fft.ifft2(-square * np.fft.fft2(reference)).real
    mean = average(reference)
    variance = average(reference**2) - mean**2
    roughness = -(average(reference * curved) - mean * average(curved)) / variance
    return (1.0 / np.maximum(visibility, 0.05) - 1.0) / roughness


def lcs_retrieval(reference: Array, sample: Array, window: int) -> tuple[Array, Array]:
    import warnings

    from lcs.api import lcs_df

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that positions and a window are used together
        found = lcs_df(np.moveaxis(reference, 0, -1), np.moveaxis(sample, 0, -1), win_size=window)
    return np.stack([found[..., 2], found[..., 1]]), found[..., 3]


def algotom_umpa(reference: Array, sample: Array, window: int) -> tuple[Array, Array]:
    from algotom.util.correlation import find_local_shifts_umpa

    x, y, _, visibility = find_local_shifts_umpa(
        reference, sample, win_size=window, margin=SEARCH, gpu=False, dark_signal=True
    )
    edge = SEARCH + window // 2 + 1
    inner = np.s_[edge:-edge, edge:-edge]
    dark = from_visibility(visibility, reference, window)
    return -np.stack([x[inner], y[inner]]), dark[inner]


def algotom_correlation(reference: Array, sample: Array, window: int) -> tuple[Array, None]:
    from algotom.util.correlation import find_local_shifts

    several = len(reference) > 1
    pair = (reference, sample) if several else (reference[0], sample[0])
    x, y = find_local_shifts(*pair, dim=2, win_size=window, margin=SEARCH)
    edge = SEARCH + window // 2 + 1
    return -np.stack([x, y])[:, edge:-edge, edge:-edge], None


def wxst(reference: Array, sample: Array, setting: tuple[int, int]) -> tuple[Array, None]:
    from aps.wf_suite.relative_metrology.legacy.WXST import WXST

    half, cut = setting
    solver = WXST(
        sample[0],
        reference[0],
        M_image=reference.shape[1],
        N_s=half,
        cal_half_window=SEARCH + 2,
        n_cores=1,
        n_group=1,
        pyramid_level=1,
        wavelet_level_cut=cut,
    )
    solver.run()
    return np.stack(solver.displace[::-1]), None


def wsvt(reference: Array, sample: Array, setting: tuple[int, int, int]) -> tuple[Array, None]:
    from aps.wf_suite.relative_metrology.legacy.WSVT import WSVT

    half, extend, pyramid = setting
    solver = WSVT(
        sample,
        reference,
        M_image=reference.shape[1],
        cal_half_window=half,
        N_s_extend=extend,
        n_cores=1,
        n_group=1,
        pyramid_level=pyramid,
        use_wavelet=False,  # few positions leave no levels
    )
    solver.run()
    return np.stack(solver.displace[::-1]), None


def _tracking(reference: Array, sample: Array) -> Any:
    """Return spexwavepy's solver for arrays, which it would read from files."""
    from spexwavepy.imstackfun import Imagestack
    from spexwavepy.trackfun import Tracking

    stacks = []
    for frames in (sample, reference):
        stack = Imagestack(".", [0, frames.shape[1], 0, frames.shape[2]])
        stack.rawdata, stack.data, stack.fnum = frames, frames.copy(), len(frames)
        stacks.append(stack)
    tracking = Tracking(*stacks)
    tracking.pixsize = tracking.dist = tracking.scanstep = 1.0
    return tracking


def spexwavepy_xst(reference: Array, sample: Array, window: int) -> tuple[Array, None]:
    solver = _tracking(reference, sample)
    edge, pad = (SEARCH + 1,) * 2, (SEARCH,) * 2
    solver.XST_withrefer(edge, edge, pad, pad, window, window, verbose=False)
    return -np.stack([solver.delayX, solver.delayY]), None


def spexwavepy_xsvt(reference: Array, sample: Array, window: int) -> tuple[Array, None]:
    solver = _tracking(reference, sample)
    # It also searches along the positions, and finds nothing without one to spare at either end.
    solver.XSVT_withrefer(SEARCH + 1, 1, window, SEARCH, verbose=False)
    return -np.stack([solver.delayY, solver.delayX]), None


def _any(_: int) -> bool:
    return True


WINDOWS = (5, 9, 15, 21)
PROGRAMS: dict[str, Program] = {
    "full-field": Program(by_method("full-field"), ("auto",), _any),
    "mist-gradient-flow": Program(
        by_method("mist-gradient-flow", "smoothing"), ("auto", 1.0, 2.0, 4.0), lambda n: n > 1
    ),
    "umpa": Program(by_method("umpa", "window", max_shift=SEARCH), WINDOWS, _any),
    "xsvt": Program(by_method("xsvt", "window", max_shift=SEARCH), WINDOWS, _any),
    "lcs": Program(by_method("lcs", "window", dark_field="scalar"), WINDOWS, _any),
    "lcs-retrieval": Program(by_shift(lcs_retrieval), WINDOWS, _any, "lcs"),
    "algotom, UMPA": Program(by_shift(algotom_umpa), (9, 15, 21), _any, "algotom"),
    "algotom, correlation": Program(by_shift(algotom_correlation), (9, 15, 21), _any, "algotom"),
    "wf-suite, WXST": Program(
        by_shift(wxst), ((3, 1), (5, 1), (5, 2), (8, 2)), lambda n: n == 1, "aps.wf_suite"
    ),
    "wf-suite, WSVT": Program(
        by_shift(wsvt), ((2, 1, 0), (2, 2, 1), (4, 1, 2)), lambda n: n > 2, "aps.wf_suite"
    ),
    "spexwavepy, XST": Program(by_shift(spexwavepy_xst), (9, 15, 21), lambda n: n == 1, "spexwavepy"),
    "spexwavepy, XSVT": Program(by_shift(spexwavepy_xsvt), (5, 9, 15), lambda n: n > 2, "spexwavepy"),
}


def installed(names: str | None) -> dict[str, Program]:
    """Return the programs of a list of names that are installed, all of them for none."""

    def there(program: Program) -> bool:
        try:
            return importlib.util.find_spec(program.module) is not None
        except ModuleNotFoundError:
            return False

    chosen = PROGRAMS if names is None else {name: PROGRAMS[name] for name in names.split(";")}
    for name, program in chosen.items():
        if not there(program):
            print(f"{name} is not installed", file=sys.stderr)
    return {name: program for name, program in chosen.items() if there(program)}


def score(found: Images, truth: dict[str, Array]) -> dict[str, float]:
    """Return errors of φ and D, and the correlation and slope of D."""
    inner = np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN]

    def error(a: Array, b: Array) -> float:
        return float(np.sqrt(np.mean((a - b) ** 2)) / b.std())

    a, b = (np.asarray(image, float)[inner] for image in (found.phase, truth["phase"]))
    scores = {"phase": error(a - a.mean(), b - b.mean())}
    if found.dark is not None:
        a, b = (np.nan_to_num(np.asarray(image, float)[inner]) for image in (found.dark, truth["dark_field"]))
        scores |= {
            "dark": error(a, b),
            "corr": float(np.corrcoef(a.ravel(), b.ravel())[0, 1]),
            "slope": float(np.polyfit(b.ravel(), a.ravel(), 1)[0]),
        }
    return scores


def first(stack: xmist.SpeckleStack, number: int) -> xmist.SpeckleStack:
    weights = None if stack.weights is None else stack.weights[:number]
    return xmist.SpeckleStack(stack.reference[:number], stack.sample[:number], weights)


def run(given: argparse.Namespace) -> None:
    """Append a line for each experiment, number of positions, program and setting."""
    programs = installed(given.programs)
    for number in range(given.first, given.last):
        stack, experiment, truth, _ = distribution.simulated(number, given.experiments)
        for n in given.positions:
            for name, program in programs.items():
                for setting in program.settings if program.positions(n) else ():
                    start = time.process_time()
                    try:
                        row = score(program.run(first(stack, n), experiment, setting), truth)
                    except Exception as error:
                        row = {"failed": repr(error)[:200]}
                    row |= {"seconds": time.process_time() - start}
                    row |= {"number": number, "N": n, "program": name, "setting": str(setting)}
                    with given.file.open("a") as file:
                        file.write(json.dumps(row) + "\n")


def table(given: argparse.Namespace) -> None:
    """Print errors at the best setting, and medians of the sweep."""
    rows = [json.loads(line) for line in given.file.read_text().splitlines()]
    names = list(dict.fromkeys(row["program"] for row in rows))
    for n in sorted({row["N"] for row in rows}):
        part = [row for row in rows if row["N"] == n]
        count = len({row["number"] for row in part})
        print(f"\nN = {n}, {count} experiments: median (90 % quantile) at the best setting\n")
        print("| program | φ error | D error | D corr | D slope | φ by setting | D by setting | failed |")
        print("|---|---|---|---|---|---|---|---|")
        for name in names:
            mine = [row for row in part if row["program"] == name]
            if mine:
                print(f"| {name} | {' | '.join(_cells(mine))} |")


def _cells(rows: list[dict[str, Any]]) -> Iterator[str]:
    numbers = sorted({row["number"] for row in rows})
    good = [row for row in rows if "failed" not in row]
    best: dict[str, list[dict[str, Any]]] = {}
    for channel in ("phase", "dark"):
        tried = [[row for row in good if row["number"] == number and channel in row] for number in numbers]
        best[channel] = [min(some, key=lambda row: row[channel]) for some in tried if some]
    for channel, key in (("phase", "phase"), ("dark", "dark"), ("dark", "corr"), ("dark", "slope")):
        values = [row[key] for row in best[channel]]
        worst = "" if key in ("corr", "slope") or not values else f" ({np.quantile(values, 0.9):.3g})"
        yield f"{np.median(values):.3g}{worst}" if values else "–"
    for channel in ("phase", "dark"):
        sweep = {}
        for row in good:
            if channel in row:
                sweep.setdefault(row["setting"], []).append(row[channel])
        yield "; ".join(f"{setting}: {np.median(some):.3g}" for setting, some in sweep.items()) or "–"
    yield str(len(rows) - len(good))


def measured(given: argparse.Namespace) -> None:
    """Print contrast and noise of measured frames, of pixels that have data in all positions."""
    from xmist.workflow.configuration import parse_configuration
    from xmist.workflow.run import load_projection

    loaded = load_projection(parse_configuration(given.config), None, lambda *_: None)
    stack, experiment = loaded.stack, loaded.experiment
    regions = make_regions(stack)
    used = np.isfinite(stack.reference).all(0) & np.isfinite(stack.sample).all(0)
    if stack.weights is not None:
        used &= (stack.weights > 0).all(0)
    # Programs without weights get the nearest good value with 1 % of noise, for some fail where frames are
    # constant, and are scored away from it.
    nearest = ndi.distance_transform_edt(~used, return_distances=False, return_indices=True)
    noise = np.where(used, 0.0, 0.01 * np.random.default_rng(0).standard_normal(used.shape))
    plain = xmist.SpeckleStack(
        *(frames[:, *nearest] * (1.0 + noise) for frames in (stack.reference, stack.sample))
    )
    mask = ndi.binary_erosion(used, iterations=given.margin, border_value=1)
    print(
        f"{int(mask.sum())} pixels; bare beam: {regions.about['outside']}; sample: {regions.about['inside']}"
    )
    print("\n| program | N | setting | CNR of D (by medians) | sensitivity x / y nrad | by medians |")
    print("|---|---|---|---|---|---|")
    for n in range(1, stack.positions + 1):
        for name, program in installed(given.programs).items():
            for setting in program.settings if program.positions(n) else ():
                frames = first(stack if program.module == "xmist" else plain, n)
                try:
                    found = program.run(frames, experiment, setting)
                except Exception as error:
                    print(f"| {name} | {n} | {setting} | {error!r:.80} | | |", flush=True)
                    continue
                contrast = "–"
                if found.dark is not None:
                    values = [
                        cnr(found.dark, regions.outside, regions.inside, mask=mask, robust=robust)
                        for robust in (False, True)
                    ]
                    contrast = f"{abs(values[0]):.3g} ({abs(values[1]):.3g})"
                angles = [
                    angular_sensitivity(found.angle, regions.outside, mask=mask, robust=robust)
                    for robust in (False, True)
                ]
                noise = " | ".join(" / ".join(f"{1e9 * part:.0f}" for part in pair) for pair in angles)
                print(f"| {name} | {n} | {setting} | {contrast} | {noise} |", flush=True)


def speed(given: argparse.Namespace) -> None:
    """Print processor time of the second run and peak memory of a process for each program."""
    if given.one:
        stack, experiment = _smooth(given.size, given.positions)
        program, small = PROGRAMS[given.one], _smooth(64, given.positions)
        program.run(*small, program.settings[0])  # compiles
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        program.run(stack, experiment, program.settings[0])
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = time.process_time() - start + children.ru_utime + children.ru_stime
        peak = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, children.ru_maxrss)
        print(f"{seconds:.2f} | {peak / 1e6:.2f} | {(peak - before) / 1e6:.2f}")
        return
    print(f"{given.size}², N = {given.positions}\n")
    print("| program | setting | processor s | peak GB | above the frames and the program, GB |")
    print("|---|---|---|---|---|")
    for name, program in installed(given.programs).items():
        if program.positions(given.positions):
            options = ["--size", str(given.size), "--positions", str(given.positions), "--one", name]
            done = subprocess.run(
                [sys.executable, __file__, "speed", *options],
                capture_output=True, text=True, check=False, env=os.environ,
            )  # fmt: skip
            last = (done.stdout.strip().splitlines() or ["failed"])[-1]
            print(f"| {name} | {program.settings[0]} | {last} |", flush=True)


def _smooth(
    size: int, positions: int, moved: tuple[Array, Array] | None = None
) -> tuple[xmist.SpeckleStack, xmist.Experiment]:
    """Return speckles that are moved by shifts (x, y) of half a pixel, or by those given."""
    random = np.random.default_rng(7)
    y, x = np.mgrid[:size, :size].astype(float)
    shift_x, shift_y = (0.3, -0.4) if moved is None else moved
    frames: tuple[list[Array], list[Array]] = ([], [])
    for _ in range(positions):
        grains = ndi.gaussian_filter(random.standard_normal((size, size)), 1.6, mode="wrap")
        grains = 1.0 + 0.2 * grains / grains.std()
        frames[0].append(grains)
        places = [y - shift_y, x - shift_x]
        frames[1].append(0.9 * ndi.map_coordinates(grains, places, order=5, mode="grid-wrap"))
    experiment = xmist.Experiment(energy_kev=17.0, pixel_size=5.8e-6, sample_to_detector=1.0)
    return xmist.SpeckleStack(np.stack(frames[0]), np.stack(frames[1])), experiment


def check(given: argparse.Namespace) -> None:
    """Print the rms errors of known shifts, which differ along x and y, in pixels."""
    y, x = np.mgrid[:96, :96] * 2.0 * np.pi / 96.0
    right = np.stack(
        [0.4 * np.cos(x) * (1.0 + 0.5 * np.cos(y)) + 0.2 * np.cos(x + 2 * y),
         -0.2 * np.sin(x) * np.sin(y) + 0.4 * np.cos(x + 2 * y)]
    )  # fmt: skip
    inner = np.s_[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    for name, program in installed(given.programs).items():
        n = next(n for n in NUMBERS if program.positions(n))
        stack, experiment = _smooth(96, n, (right[0], right[1]))
        unit = experiment.effective_pixel / experiment.effective_distance
        for setting in program.settings:
            angle = np.asarray(program.run(stack, experiment, setting).angle, float) / unit
            x_error, y_error = np.sqrt(((angle - right)[inner] ** 2).mean(axis=(1, 2)))
            print(f"{name}, N = {n}, {setting}: rms error {x_error:.3f}, {y_error:.3f}", flush=True)
    print(f"rms of the shifts: {right[0][inner[1:]].std():.3f}, {right[1][inner[1:]].std():.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    parts = {name: commands.add_parser(name) for name in ("run", "table", "measured", "speed", "check")}
    parts["run"].add_argument("first", type=int)
    parts["run"].add_argument("last", type=int)
    parts["run"].add_argument("--experiments", type=Path, help="a file with functions draw and make")
    parts["run"].add_argument("--positions", type=int, nargs="+", default=NUMBERS, choices=range(1, 7))
    for name in ("run", "table"):
        parts[name].add_argument("file", type=Path)
    parts["measured"].add_argument("config", type=Path, help="a configuration file")
    parts["measured"].add_argument("--margin", type=int, default=3, help="pixels around bad ones")
    parts["speed"].add_argument("--size", type=int, default=1024, help="pixels")
    parts["speed"].add_argument("--positions", type=int, default=1)
    parts["speed"].add_argument("--one", help=argparse.SUPPRESS)
    for name in ("run", "measured", "speed", "check"):
        parts[name].add_argument("--programs", help="names with semicolons between them; all without it")
    given = parser.parse_args()
    {"run": run, "table": table, "measured": measured, "speed": speed, "check": check}[given.command](given)


if __name__ == "__main__":
    main()
