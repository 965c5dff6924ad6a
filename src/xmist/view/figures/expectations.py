"""A figure of expected errors, over the quantity that varies most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xmist.core.errors import InputError
from xmist.evaluate.planning import Expected, ExpectedErrors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What was varied: attribute, name on the axis, and how a value is called in the legend.
_VARIED: Final = (
    ("distance", "distance (m)", "distance {:.3g} m"),
    ("speckle", "speckle size (µm)", "speckles of {:.3g} µm"),
    ("positions", "positions N", "N = {:.0f}"),
    ("photons", "photons per pixel", "{:.6g} photons per pixel"),
)
_SCALE: Final = {"speckle": 1e6}
_ERRORS: Final = (
    ("phase_error", "error of φ (rad)", 1.0),
    ("dark_field_error", "error of D (pm)", 1e12),
    ("refraction_angle_error", "error of the refraction angle (nrad)", 1e9),
)
_MARKERS: Final = "os^vD*Px"


def plan_figure(table: ExpectedErrors) -> Figure:
    """Draw expected errors on logarithmic axes.

    Parameters
    ----------
    table : ExpectedErrors
        From `xmist.evaluate.expected_errors`.

    Returns
    -------
    matplotlib.figure.Figure
        A panel each for φ, D and the refraction angle, as far as the method retrieves them. The x axis is
        what was varied most, with a line for each choice of the rest. Needs no display; `save_figure` writes
        it.

    Raises
    ------
    InputError
        If the table is empty.

    Examples
    --------
    >>> from xmist.evaluate.planning import Expected, ExpectedErrors
    >>> values = {"speckle": 2e-5, "positions": 2, "photons": 1e4, "dose": 4e4, "phase_nrmse": None}
    >>> values |= {"dark_field_error": None, "dark_field_nrmse": None, "phase_error": 1.0}
    >>> values |= {"refraction_angle_error": 1e-8, "refraction_angle_nrmse": 0.2}
    >>> rows = tuple(Expected(distance=distance, **values) for distance in (0.5, 1.0))
    >>> [axes.get_ylabel() for axes in plan_figure(ExpectedErrors(rows=rows, method="mist", draws=1)).axes]
    ['error of φ (rad)', 'error of the refraction angle (nrad)']
    """
    from matplotlib.figure import Figure

    if not len(table):
        raise InputError("the table has no rows; expected one at least", code="value-invalid")
    distinct = {name: sorted({getattr(row, name) for row in table}) for name, _, _ in _VARIED}
    along = max(_VARIED, key=lambda item: len(distinct[item[0]]))
    others = [item for item in _VARIED if item is not along]
    varied = [item for item in others if len(distinct[item[0]]) > 1]
    lines: dict[tuple[Any, ...], list[Expected]] = {}
    for row in table:
        lines.setdefault(tuple(getattr(row, name) for name, _, _ in others), []).append(row)
    shown = [item for item in _ERRORS if any(getattr(row, item[0]) is not None for row in table)]
    page = Figure(figsize=(3.6 * len(shown) + 2.6, 3.8), layout="constrained")
    panels = page.subplots(1, len(shown), squeeze=False)[0]
    for axes, (name, label, scale) in zip(panels, shown, strict=True):
        for number, (choice, rows) in enumerate(lines.items()):
            values = dict(zip((item[0] for item in others), choice, strict=True))
            text = ", ".join(form.format(values[key] * _SCALE.get(key, 1.0)) for key, _, form in varied)
            rows = sorted(rows, key=lambda row: float(getattr(row, along[0])))
            axes.plot(
                [getattr(row, along[0]) * _SCALE.get(along[0], 1.0) for row in rows],
                [scale * getattr(row, name) for row in rows],
                marker=_MARKERS[number % len(_MARKERS)],
                color=f"C{number % 10}",
                linestyle="-" if number < 10 else "--",
                markersize=4,
                linewidth=1.2,
                label=text or "expected",
            )
        axes.set(xscale="log", yscale="log", xlabel=along[1], ylabel=label)
        _plain_ticks(axes, [value * _SCALE.get(along[0], 1.0) for value in distinct[along[0]]])
        axes.grid(True, which="major", alpha=0.4)
        axes.grid(True, which="minor", alpha=0.15)
    if varied:
        handles, labels = panels[0].get_legend_handles_labels()
        page.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    fixed = ", ".join(
        form.format(distinct[name][0] * _SCALE.get(name, 1.0))
        for name, _, form in others
        if len(distinct[name]) == 1
    )
    draws = f"{table.draws} simulated experiment{'s' * (table.draws > 1)} per point"
    page.suptitle(
        f"Expected errors of {table.method} ({'; '.join(filter(None, [fixed, draws]))})", fontsize=10
    )
    return page


def _plain_ticks(axes: Axes, places: list[float]) -> None:
    """Mark the places that were computed along x, and 1, 2 and 5 of each decade along y, without powers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    numbers = FuncFormatter(lambda value, _: f"{value:.6g}")
    low, high = axes.get_ylim()
    if high < 4.0 * low:
        axes.set_ylim(low / 2.0, high * 2.0)
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(numbers)
        axis.set_minor_formatter(NullFormatter())
