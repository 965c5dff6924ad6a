"""Examine one projection before a run: flux, visibility, and whether its frames belong together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from xmist.core.arrays import Image
from xmist.core.data import SpeckleStack
from xmist.core.findings import Finding, finding
from xmist.workflow.processor import ProjectionProcessor

# Rows and columns around the centre that are compared, and positions.
_SIDE: Final = 512
_MOST: Final = 12
# Pixels by which speckles may have moved.
_REACH: Final = 24
# A frame that matches another reference so much better belongs to that one.
_BETTER: Final = 1.5
# Below this correlation a sample frame shows no speckles of its reference.
_UNRELATED: Final = 0.1
_BRIGHTER: Final = 1.05
_SHARPER: Final = 1.1


def examine_projection(processor: ProjectionProcessor, index: int) -> tuple[Mapping[str, Any], list[Finding]]:
    """Read the frames of one projection, and examine them; return nothing if they cannot be read."""
    with processor.open() as reader:
        prepared = processor.prepare(index, reader)
    if prepared.stack is None:
        return {}, []
    number = int(processor.setup.table.numbers[index])
    found = examine_stack(prepared.stack)
    return {"projection": number, **found}, [*prepared.findings, *_findings(found, number)]


def examine_stack(stack: SpeckleStack) -> dict[str, Any]:
    """Return flux and visibility of the sample over the reference frames, and the best matches.

    `matches` holds for each sample frame the reference frame that it resembles most, and `correlation` that
    with its own, after the mean of all frames of a kind was subtracted; empty for one position.
    """
    box = tuple(
        slice(max(0, (size - _SIDE) // 2), max(0, (size - _SIDE) // 2) + _SIDE)
        for size in stack.reference.shape[1:]
    )
    chosen = np.unique(np.linspace(0, stack.positions - 1, min(stack.positions, _MOST)).round().astype(int))
    weights = None if stack.weights is None else stack.weights[chosen][:, *box] > 0
    reference = _filled(stack.reference[chosen][:, *box], weights)
    sample = _filled(stack.sample[chosen][:, *box], weights)
    levels = [frames.mean(axis=(1, 2), dtype=np.float64) for frames in (reference, sample)]
    contrast = [
        frames.std(axis=(1, 2), dtype=np.float64) / level
        for frames, level in zip((reference, sample), levels, strict=True)
    ]
    found: dict[str, Any] = {
        "flux": float(levels[1].mean() / levels[0].mean()),
        "visibility": float(np.median(contrast[1] / contrast[0])),
        "matches": (),
        "correlation": (),
    }
    if len(chosen) > 1:
        peaks = _correlations(reference, sample)
        best = peaks.argmax(axis=1)
        own = np.diag(peaks)
        better = peaks.max(axis=1) > _BETTER * np.maximum(own, 0.0) + 0.02
        found["matches"] = tuple(chosen[np.where(better, best, np.arange(len(best)))].tolist())
        found["correlation"] = tuple(np.round(own, 3).tolist())
        found["positions"] = tuple(chosen.tolist())
    return found


def _filled(frames: Image, weights: NDArray[np.bool_] | None) -> Image:
    """Return frames whose pixels without weight or value hold the mean of the others."""
    good = np.isfinite(frames) if weights is None else np.isfinite(frames) & weights
    counts = np.maximum(good.sum(axis=(1, 2), keepdims=True), 1)
    means = np.where(good, frames, 0.0).sum(axis=(1, 2), keepdims=True, dtype=np.float64) / counts
    filled: Image = np.where(good, frames, means).astype(np.float32)
    return filled


def _correlations(reference: Image, sample: Image) -> NDArray[np.float64]:
    """Return the highest correlation of each sample with each reference frame over small shifts."""
    spectra = []
    for frames in (reference, sample):
        part = frames - frames.mean(axis=0)  # the sample itself is in all of its frames
        part -= part.mean(axis=(1, 2), keepdims=True)
        part /= np.maximum(np.sqrt((part.astype(np.float64) ** 2).sum(axis=(1, 2), keepdims=True)), 1e-30)
        spectra.append(np.fft.rfft2(part))
    shape = reference.shape[1:]
    reach = [min(_REACH, size // 4) for size in shape]
    peaks = np.zeros((len(sample), len(reference)))
    for n, m in np.ndindex(*peaks.shape):
        surface = np.fft.irfft2(spectra[1][n] * spectra[0][m].conj(), shape)
        near = np.roll(surface, reach, (0, 1))[: 2 * reach[0] + 1, : 2 * reach[1] + 1]
        peaks[n, m] = near.max()
    return peaks


def _findings(found: Mapping[str, Any], number: int) -> list[Finding]:
    findings = []
    if found["flux"] > _BRIGHTER:
        text = f"projection {number}: the sample frames are {found['flux']:.3g} × as bright as the references"
        findings.append(finding("sample-brighter", text))
    if found["visibility"] > _SHARPER:
        text = f"projection {number}: speckles have {found['visibility']:.3g} × the contrast of references"
        findings.append(finding("sample-sharper", text))
    wrong = [
        (position, match)
        for position, match in zip(found.get("positions", ()), found["matches"], strict=True)
        if position != match
    ]
    if wrong:
        position, match = wrong[0]
        text = (
            f"projection {number}: {len(wrong)} of {len(found['matches'])} sample frames match the reference "
            f"frame of another position better than their own: that of position {position} matches position "
            f"{match}"
        )
        findings.append(finding("pairing-doubtful", text))
    elif found["correlation"] and max(found["correlation"]) < _UNRELATED:
        text = (
            f"projection {number}: the sample frames show no speckles of their reference frames (correlation "
            f"at most {max(found['correlation']):.2g})"
        )
        findings.append(finding("pairing-doubtful", text))
    return findings


def describe_examined(found: Mapping[str, Any]) -> str:
    """Return what was found in one line."""
    if not found:
        return ""
    text = f"flux {found['flux']:.3f} and visibility {found['visibility']:.3f} of the references"
    own = found["correlation"]
    if own and all(map(math.isfinite, own)):
        text += f"; sample frames match their references (correlation {min(own):.2g} to {max(own):.2g})"
    return text
