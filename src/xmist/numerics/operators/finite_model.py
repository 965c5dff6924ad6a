"""The finite transport model of sample frames, about which the linear operator is taken.

    S_n = M_n − ∇·(M_n ∇ψ_r) + M_n t_r,    M_n = B_d W_u (T_s I_R,n)

with W_u the warp by u = ∇ψ_s that conserves intensity, B_d the blur by diffusion, and ψ = ψ_s + ψ_r,
ln T = t_s + t_r split into a smooth and a rough part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.numerics.compiled import fixed, jit
from xmist.numerics.images.margin import Margined
from xmist.numerics.operators.derivatives import DX, DY, LAPLACIAN, derivative
from xmist.numerics.operators.finite_transport import Warp, diffuse, sampled, spline_coefficients
from xmist.numerics.operators.transport import LOG_T, PSI
from xmist.numerics.parallel import for_blocks
from xmist.numerics.solvers.poisson import smoothed

Real = NDArray[Any]

_ACCURACY: Final = 1e-5  # pixels to which the warp is inverted


@jit
def _leave_rows(model, sample, unit, value, along_x, along_y, slope, out, start, stop):  # type: ignore[no-untyped-def]
    """Compute the residual in `out`, which holds the slope of the model along x; `slope` is that along y."""
    for y in range(start, stop):
        m, s, v, p, q, g, line = model[y], sample[y], value[y], along_x[y], along_y[y], slope[y], out[y]
        for x in range(len(line)):
            line[x] = line[x] * p[x] + m[x] * v[x] + g[x] * q[x] + s[x] / unit


@dataclass(frozen=True, kw_only=True, eq=False)
class Residual:
    """The residual of sample frames, S_n − model: a sequence of images that are computed on demand.

    A stack of them would be as large as the frames, and is read once or twice. Fields as in `linearise`.
    """

    sample: Real | Margined
    models: Real
    kinds: tuple[int, ...]
    fields: Real
    smoothing: float
    unit: float = 1.0
    threads: int | None = None
    _slopes: list[Real] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of images, and their size."""
        return self.models.shape

    def __len__(self) -> int:
        return len(self.models)

    def __iter__(self) -> Iterator[Real]:
        return (self[n] for n in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Real:
        return np.array(list(self), dtype)

    def __getitem__(self, n: int, /) -> Real:
        model, sample = self.models[n], self.sample[n]
        number = model.dtype.type(self.unit)
        if not self.fields.any():
            out: Real = np.divide(sample, number, dtype=model.dtype)
            out -= model
            return out
        slopes = self._along()
        out = derivative(model, DX, threads=self.threads)
        slope = derivative(model, DY, threads=self.threads)
        for_blocks(
            lambda a, b: _leave_rows(model, fixed(sample), number, *slopes, slope, out, a, b),
            len(out),
            threads=self.threads,
        )
        return out

    def _along(self) -> list[Real]:
        """Return the factors of a model image and of its slopes; kept until `forget`."""
        if not self._slopes:
            named, threads = dict(zip(self.kinds, self.fields, strict=True)), self.threads
            rough = smoothed(named[PSI], self.smoothing, threads=threads)
            np.subtract(named[PSI], rough, out=rough)
            value = derivative(rough, LAPLACIAN, threads=threads)
            value -= 1
            self._slopes.extend([value, *(derivative(rough, kind, threads=threads) for kind in (DX, DY))])
            if LOG_T in named:
                del rough
                value += smoothed(named[LOG_T], self.smoothing, threads=threads)
                value -= named[LOG_T]
        return self._slopes

    def forget(self) -> None:
        """Free the memory of what all images have in common; it is computed again when needed."""
        self._slopes.clear()


def linearise(
    reference: Real | Margined,
    sample: Real | Margined,
    kinds: tuple[int, ...],
    fields: Real,
    *,
    smoothing: float,
    unit: float = 1.0,
    out: Real | None = None,
    threads: int | None = None,
) -> tuple[Real, Residual]:
    """Return the model images M_n (position, y, x) and the residual S_n − model.

    `fields` (unknown, y, x) in pixel units for `kinds` of `transport`, ψ among them; `smoothing`: σ in pixels
    of the Gaussian that makes the smooth parts; `unit`: what the sample frames are divided by. Where all
    fields are 0 the models are the reference itself, else they lie in `out` if it is given.
    """
    if fields.any():
        models = _models(reference, kinds, fields, smoothing, out, threads)
    else:
        models = np.asarray(reference)
    return models, Residual(
        sample=sample,
        models=models,
        kinds=kinds,
        fields=fields,
        smoothing=smoothing,
        unit=unit,
        threads=threads,
    )


def smooth_warp(psi: Real, smoothing: float, *, threads: int | None = None) -> Warp:
    """Return W_u, the warp by the slopes of smooth ψ."""
    smooth = smoothed(psi, smoothing, threads=threads)
    flow = np.empty((2, *smooth.shape), smooth.dtype)
    for line, kind in zip(flow, (DX, DY), strict=True):
        derivative(smooth, kind, out=line, threads=threads)
    del smooth
    return Warp.of(flow, accuracy=_ACCURACY, threads=threads)


def at_the_sample(psi: Real, smoothing: float, *, threads: int | None = None) -> Real:
    """Return ψ (y, x) where rays cross the sample.

    In the model smooth ψ acts there, but rough ψ where smooth ψ has moved the ray to. First-order terms of
    rough ψ besides leave out −½ |∇ψ_r|², by which the phase changes at a point as the wave goes on.
    """
    smooth = smoothed(psi, smoothing, threads=threads)
    rough = psi - smooth
    back = np.empty((2, *psi.shape), psi.dtype)
    for line, kind in zip(back, (DX, DY), strict=True):
        derivative(smooth, kind, out=line, threads=threads)
    back *= psi.dtype.type(-1.0)
    out = sampled(spline_coefficients(rough, threads=threads), back, threads=threads)
    for kind in (DX, DY):
        slope = derivative(rough, kind, threads=threads)
        slope *= slope
        slope *= psi.dtype.type(0.5)
        out += slope
    out += smooth
    return out


def _models(
    reference: Real | Margined,
    kinds: tuple[int, ...],
    fields: Real,
    smoothing: float,
    out: Real | None,
    threads: int | None,
) -> Real:
    named = dict(zip(kinds, fields, strict=True))
    warp = smooth_warp(named.pop(PSI), smoothing, threads=threads)
    factor = None
    log_t = named.pop(LOG_T, None)
    if log_t is not None:
        smooth = smoothed(log_t, smoothing, threads=threads)
        with np.errstate(over="ignore"):  # a step that goes too far is taken back
            factor = warp(np.exp(smooth, out=smooth))
        del smooth
    models = np.empty(reference.shape, reference.dtype) if out is None else out
    for frame, model in zip(reference, models, strict=True):
        warp.intensity(frame, factor=factor, out=model)
        diffuse(model, named, overwrite=True, threads=threads)
    return models
