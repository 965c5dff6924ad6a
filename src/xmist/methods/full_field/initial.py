"""Convert an initial result to the unknowns of the fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.core.data import Retrieval
from xmist.core.errors import InputError
from xmist.core.experiment import Experiment
from xmist.methods.common.phase import screening_length2
from xmist.methods.full_field.border import mirrored
from xmist.methods.full_field.options import FullFieldOptions
from xmist.methods.full_field.problem import Start
from xmist.numerics.images.fill import fill
from xmist.numerics.operators.transport import D_XX, D_XY, D_YY, LOG_T, PSI, D
from xmist.numerics.solvers.preconditioner import Prior

Real = NDArray[Any]


def start_from(
    initial: Retrieval,
    experiment: Experiment,
    options: FullFieldOptions,
    kinds: tuple[int, ...],
    shape: tuple[int, ...],
    margin: int,
) -> Start:
    """Return the start from a result with a phase, for frames of `shape` (y, x) with a margin.

    With the priors where it is one of `full-field` with the same unknowns and prior.
    """
    if initial.shape != shape:
        raise InputError(
            f"initial is a result of shape {initial.shape}; expected that of the frames, {shape}",
            "shape-mismatch",
        )
    if initial.phase is None:
        raise InputError(
            f"initial is a result of {initial.method} without a phase; expected one with a phase",
            "initial-invalid",
        )
    k, p, distance = experiment.wavenumber, experiment.effective_pixel, experiment.effective_distance
    per_d = distance / p**2
    given: dict[int, Image] = {PSI: initial.phase * np.float32(distance / (k * p**2))}
    if initial.dark_field is not None:
        dark = initial.dark_field * np.float32(per_d)
        given |= {D: dark, D_XX: dark, D_YY: dark}
    if initial.dark_field_tensor is not None:
        for kind, part in zip((D_XX, D_XY, D_YY), initial.dark_field_tensor, strict=True):
            given[kind] = part * np.float32(per_d)
    if initial.transmission is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            given[LOG_T] = np.log(initial.transmission)
    fields = np.zeros((len(kinds), *shape), np.float32)
    for field, kind in zip(fields, kinds, strict=True):
        if kind in given:
            known = np.isfinite(given[kind])
            field[...] = np.nan_to_num(fill(given[kind], known), nan=0.0, posinf=0.0, neginf=0.0)
    if options.delta_over_beta is not None:
        length2 = screening_length2(experiment, options.delta_over_beta)
        fields[kinds.index(PSI)] = np.float32(length2) * fields[kinds.index(LOG_T)]
    else:
        fields[kinds.index(PSI)] -= fields[kinds.index(PSI)].mean(dtype=np.float64)
    return Start(fields=np.asarray(mirrored(fields, margin)), priors=_priors(initial, options, kinds))


def _priors(
    initial: Retrieval, options: FullFieldOptions, kinds: tuple[int, ...]
) -> tuple[Prior, ...] | None:
    if initial.method != "full-field" or options.regularisation == 0.0:
        return None
    same = all(
        initial.options.get(name) == getattr(options, name)
        for name in ("dark_field", "transmission", "prior", "regularisation", "delta_over_beta")
    )
    record = initial.provenance.get("convergence", {})
    known = [record.get(name, ()) for name in ("prior_strengths", "prior_orders")]
    if not same or any(len(values) != len(kinds) for values in known):
        return None
    return tuple(Prior(strength=float(a), order=float(order)) for a, order in zip(*known, strict=True))
