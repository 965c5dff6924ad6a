"""Findings about frames and results: records with a code, a severity and a message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

Severity = Literal["note", "warning"]


@dataclass(frozen=True)
class FindingCode:
    """What a code means, and what to do about it.

    Parameters
    ----------
    code : str
        Name, in words joined by hyphens.
    severity : {"note", "warning"}
        A warning means that a result may be wrong.
    meaning : str
        What was found, and for which image channel it matters.
    remedy : str
        What to do.
    """

    code: str
    severity: Severity
    meaning: str
    remedy: str


@dataclass(frozen=True)
class Finding:
    """Something noticed about frames or a result.

    Parameters
    ----------
    code : str
        A key of `FINDING_CODES`.
    severity : {"note", "warning"}
        A warning means that a result may be wrong.
    message : str
        What was measured, what it means for which image channel, and what to do.

    Examples
    --------
    >>> record = finding("identical-frames", "sample and reference frames of position 0 are identical")
    >>> record.severity, str(record)
    ('warning', 'sample and reference frames of position 0 are identical')
    """

    code: str
    severity: Severity
    message: str

    def __str__(self) -> str:
        return self.message

    def to_dict(self) -> dict[str, str]:
        """Return the record as plain data."""
        return {"code": self.code, "severity": self.severity, "message": self.message}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """Return the record from the plain data of `to_dict`."""
        severity: Severity = "warning" if data["severity"] == "warning" else "note"
        return cls(str(data["code"]), severity, str(data["message"]))


def _warning(code: str, meaning: str, remedy: str) -> FindingCode:
    return FindingCode(code, "warning", meaning, remedy)


def _note(code: str, meaning: str, remedy: str) -> FindingCode:
    return FindingCode(code, "note", meaning, remedy)


# One section for each part of the package: add a code in the section of the code that reports it.
_TABLE: Final = (
    # --- frames of a projection, for every method (methods/common) ---
    _warning(
        "identical-frames",
        "Sample and reference frames are the same data, so that every image channel shows no object.",
        "Check which files were given as sample and as reference.",
    ),
    _warning(
        "no-light",
        "A frame has no light: the beam shutter was probably closed.",
        "Leave this position out or record it again.",
    ),
    _warning(
        "unequal-flux",
        "The flux of one frame differs by more than 30 % from that of the others.",
        "Normalise the flux (preprocessing step flux), or leave this position out.",
    ),
    _warning(
        "counts-cut",
        "Many pixels of a frame have its highest or its lowest value: counts were cut, as by saturation or "
        "by setting negative ones to 0. Phase and dark-field are wrong there.",
        "Give these pixels weight 0 (the command line finds saturated pixels in raw counts), or expose less.",
    ),
    _warning(
        "mask-dense",
        "Nearly every usable pixel lies beside a masked one: its speckle is interpolated from few "
        "neighbours, and all image channels are noisy or wrong.",
        "Mask fewer pixels, or bin the frames.",
    ),
    _warning(
        "flux-falls",
        "The flux of reference and sample frames falls or rises steadily over the positions: the beam "
        "decays or recovers. The transmission is wrong unless both frames of a pair have the same flux.",
        "Normalise the flux (preprocessing step flux).",
    ),
    _warning(
        "positions-repeated",
        "Frames of two positions show the same speckles: they count as one position, and the dark-field is "
        "less well determined.",
        "Check which files were given, and that the diffuser moved.",
    ),
    _warning(
        "pairs-swapped",
        "A sample frame shows the speckles of another reference frame: all image channels are wrong.",
        "Pair the frames by position; check whether a frame is missing.",
    ),
    _warning(
        "pairs-turned",
        "A sample frame fits its reference frame only mirrored or rotated: all image channels are wrong.",
        "Turn the frames of one kind.",
    ),
    _warning(
        "pairs-unmatched",
        "The speckles of a sample frame are not those of its reference frame: all image channels are wrong.",
        "Check which files belong together, their order, and that the diffuser stood still.",
    ),
    _warning(
        "visibility-differs",
        "The speckles of one position have far less visibility than those of the others: something moved "
        "while a frame was recorded, and dark-field and phase suffer.",
        "Leave the position out or record it again.",
    ),
    _warning(
        "flux-differs",
        "Bare beam has another flux in the sample frames than in the reference frames: the exposure time "
        "or the beam differ. The transmission is wrong by this factor, and so is the phase of methods "
        "without transmission.",
        "Normalise the flux (preprocessing step flux).",
    ),
    _warning(
        "frames-exchanged",
        "Parts of the sample frames are brighter or sharper than the rest, which no sample does: sample and "
        "reference are swapped, and no image channel is right.",
        "Check which files were given as sample and as reference.",
    ),
    _warning(
        "sample-brighter",
        "The sample frames are brighter than the reference frames, which no sample can do.",
        "Check whether sample and reference were swapped; otherwise normalise the flux (step flux).",
    ),
    _warning(
        "sample-sharper",
        "The speckles have more contrast in the sample frames than in the reference frames.",
        "Check whether sample and reference were swapped.",
    ),
    _warning(
        "sample-attenuates",
        "The sample frames have less flux than the reference frames, and the method assumes a sample that "
        "does not attenuate: the phase is wrong, and the dark-field is multiplied by the transmission.",
        "Use a method that allows attenuation, such as full-field, lcs or mist-attenuating.",
    ),
    _warning(
        "background-undetermined",
        "No pixel of the given background has a value, so that nothing was set to 0 or 1 there.",
        "Give a background that lies on usable pixels.",
    ),
    _note(
        "positions-refined",
        "Shifts of the frames, or positions of the sample, were measured in the frames and corrected, as "
        "refine_positions asks.",
        "None is needed; the values are in the provenance.",
    ),
    # --- bare beam beside the sample, for every method (methods/common) ---
    _note(
        "phase-zero-bare-beam",
        "The phase is 0 on average in bare beam, which was given (background) or found in the frames.",
        "None is needed.",
    ),
    _note(
        "phase-zero-mean",
        "No bare beam is known: the mean of the phase is 0, and its true zero is unknown.",
        "None is needed; give background where the method has this option.",
    ),
    _note(
        "phase-zero-transmission",
        "The phase is (γ/2) ln T with δ/β, so that it is 0 where the transmission is 1.",
        "None is needed.",
    ),
    _warning(
        "bare-beam-tilted",
        "Speckles of the bare beam moved between reference and sample frames: diffuser, detector or beam "
        "drifted. The phase has a tilt or a curvature that is not the sample's.",
        "Add the preprocessing step drift, or take reference frames closer in time to the sample frames.",
    ),
    _note(
        "bare-beam-uneven",
        "Patches of the frame whose speckles did not change, as in bare beam, have another phase than bare "
        "beam at the border. They count as a flat part of the sample.",
        "None is needed if the sample is flat there. If it is bare beam, the phase is wrong by as much: give "
        "background, use more positions, or a method that retrieves slow changes of the phase.",
    ),
    _warning(
        "phase-positive",
        "The phase of the sample is above that of bare beam, and matter lowers it: sample and reference are "
        "swapped, and no image channel is right, unless the sample is a void in matter.",
        "Check which files were given as sample and as reference.",
    ),
    _warning(
        "bare-beam-transmission",
        "The transmission is not 1 in bare beam: flux or exposure time of references and samples differ.",
        "Add the preprocessing step flux.",
    ),
    _warning(
        "bare-beam-dark-field",
        "The dark-field is not 0 in bare beam: all its values are wrong by this amount.",
        "Average more reference frames to reduce their noise. Check whether references and samples differ "
        "in blur, averaging or dark frames.",
    ),
    _warning(
        "parts-unlevelled",
        "Flagged pixels separate parts of the image that contain no bare beam. The phase of such a part "
        "has an unknown offset.",
        "Mask less, or give background with bare beam in each part.",
    ),
    # --- pixels of a result, for every method (methods/common) ---
    _warning(
        "ill-determined",
        "At some pixels the frames contain almost no information: the values there are mostly noise, or "
        "come from neighbouring pixels. They carry the flag ill_determined.",
        "Use smoothing or a larger window, or more positions of the diffuser.",
    ),
    _note(
        "undetermined",
        "No frame determines some pixels; they are NaN and carry the flag undetermined.",
        "None is needed; a smaller masked area or more positions give them values.",
    ),
    _warning(
        "transmission-not-positive",
        "The transmission is 0 or negative at some pixels; phase and dark-field are NaN there.",
        "Check dark frames and flux; smoothing or more positions reduce the noise.",
    ),
    _warning(
        "border-motion-missing",
        "Speckles at the border of the frames moved, but the method does not retrieve this motion: a tilt, "
        "a defocus, an astigmatism, or an object that the border cuts. Phase and refraction angle are "
        "wrong by it.",
        "Use full-field, umpa or xsvt. If the beam drifted, add the preprocessing step drift.",
    ),
    _warning(
        "positions-disagree",
        "Speckles of some positions moved otherwise than those of the others: the sample moved or changed "
        "between positions. No image channel is right where it did.",
        "Leave these positions out, or record them again. If the sample was moved on purpose, state its "
        "positions.",
    ),
    _warning(
        "shift-contradicted",
        "Speckles moved otherwise than the refraction angle says, by more than 0.1 pixels (rms): intensities "
        "changed by something else than refraction, or shifts are too large for the method. Refraction angle "
        "and phase are wrong.",
        "Preprocess with flux or drift, allow for attenuation, or use umpa or full-field, which follow the "
        "speckles.",
    ),
    _warning(
        "speckles-lost",
        "In a part of the image the speckles of the reference frames are not found in the sample frames, or "
        "not where the result says: all image channels are wrong there, and the phase beyond.",
        "Check for shifts that are very large or uneven, for motion, and that the frames belong together; "
        "give pixels that show something else weight 0.",
    ),
    # --- methods (methods/implicit and methods/matching) ---
    _warning(
        "not-converged",
        "The iterative solution stopped before it converged: the image channels are approximate or wrong.",
        "Check that shifts are smaller than a speckle, that the options allow for attenuation, the value "
        "of delta_over_beta, and that the frames belong together. With single-material, compare with exact "
        "= false.",
    ),
    _warning(
        "dark-field-from-shift",
        "The method neglects what a shift does to speckles to second order, which looks like scatter: where "
        "shifts are large, a good part of the dark-field is not the sample's.",
        "Use full-field, umpa or mist-gradient-flow. A shift of u pixels adds u² p²/(4 ∆) in the mean.",
    ),
    _warning(
        "dark-field-from-refraction",
        "Where refraction changes within a window, the contrast of its speckles changes without any scatter: "
        "a good part of the dark-field there may not be the sample's.",
        "Use full-field or mist-gradient-flow; compare with a smaller window.",
    ),
    _warning(
        "dark-field-lowered",
        "With two or three positions a refined phase explains a part of the blur, so that the dark-field is "
        "too small by a third to a half.",
        "Use more positions, or full-field; with mist-gradient-flow, refinements = 0 has no such bias.",
    ),
    _warning(
        "dark-field-qualitative",
        "The dark-field of the method is qualitative: one position cannot separate attenuation and "
        "scattering.",
        "Use it for contrast only; for values in metres use full-field with two positions or more.",
    ),
    _warning(
        "search-edge",
        "The best shift of some pixels lies on the edge of the search range; their flag is search_edge.",
        "Increase max_shift.",
    ),
    _warning(
        "shift-rough",
        "The shift differs by more than 0.1 pixels (rms) between neighbouring windows or pixels: noise and "
        "wrong minima. The refraction angle is wrong by about as much; phase and dark-field suffer where it "
        "is.",
        "Use a larger window, smoothing or more positions; give start values (initial) where there are any.",
    ),
    _warning(
        "structure-below-window",
        "The sample has structure finer than a window, which smooths its refraction: refraction angle and "
        "phase are wrong there, and transmission and dark-field suffer.",
        "Use a smaller window with more positions, or full-field.",
    ),
    _warning(
        "shift-ambiguous",
        "The pattern of the reference frames is periodic, and shifts of more than half a period were "
        "searched or found: shift, refraction angle and phase may be wrong by whole periods.",
        "Set max_shift to half the period at most; where shifts are larger, give start values (initial).",
    ),
    _warning(
        "shift-through-border",
        "The motion of the speckles at a border of the frames is too large to be measured: tilt and "
        "defocus are missing in the phase.",
        "Use umpa, or the preprocessing step drift.",
    ),
    _warning(
        "refinement-stopped",
        "A refinement was left out because it would move speckles by more than their size: shifts are too "
        "large for the method, and phase and dark-field are approximate.",
        "Use umpa or full-field, which search for large shifts.",
    ),
    _warning(
        "window-below-speckle",
        "The window is smaller than a speckle: its equations are nearly the same, and the image channels "
        "are noisy.",
        "Use a larger window or smoothing.",
    ),
    # --- full-field (methods/full_field) ---
    _warning(
        "speckles-too-fine",
        "The speckles are smaller than 2 pixels: the detector does not resolve them, and the dark-field is "
        "wrong.",
        "Use a coarser diffuser, more magnification or less binning.",
    ),
    _warning(
        "speckles-too-faint",
        "The visibility of the speckles is below 0.03: phase and dark-field are dominated by noise and by "
        "structure of the sample.",
        "Use a diffuser of more contrast or a larger distance, or a more coherent beam.",
    ),
    _note(
        "large-shifts",
        "Speckles moved by more than the fit can follow at full resolution, so it began with binned frames.",
        "None is needed.",
    ),
    _warning(
        "dark-field-one-position",
        "The dark-field comes from one position, which does not separate scatter from thickness: its value "
        "and sign may be wrong everywhere.",
        "Use two positions of the diffuser or more to measure it.",
    ),
    _warning(
        "dark-field-from-prior",
        "Over most of the frame the prior determines the dark-field, even for structure of 64 pixels: its "
        "contrast is lost, and little more than its mean is measured.",
        "Use more positions, more light, or a diffuser with finer speckles or more contrast.",
    ),
    _warning(
        "transmission-from-prior",
        "The sample attenuates, but over most of the frame the prior determines the transmission, even for "
        "structure of 64 pixels: its contrast is lost, and little more than its mean is measured.",
        "Use more positions, more light, or a diffuser with more contrast.",
    ),
    _note(
        "outliers-rejected",
        "Single pixels of sample frames contradict the model by more than 8 standard deviations and were not "
        "used; they carry the flag bad_sample.",
        "None is needed for a few pixels; for many use the preprocessing step bad-pixels.",
    ),
    _warning(
        "residual-below-noise",
        "The residual is smaller than the noise that was given or estimated, so that the references may be "
        "smoothed too much.",
        "Give gain and read_noise as they are after scaling and averaging of the frames.",
    ),
    _warning(
        "residual-above-noise",
        "The residual is much larger than the noise: the noise is wrong, or the model does not describe the "
        "sample. The dark-field suffers most.",
        "Check gain and read_noise, drift and motion; the map residual shows where. More positions help.",
    ),
    _warning(
        "background-moved",
        "Speckles moved on the background: beam or diffuser moved between reference and sample frames, and "
        "the phase has a ramp beside the background.",
        "Add the preprocessing step drift.",
    ),
    _note(
        "initial-unused",
        "The initial result explains the frames no better than an empty field of view and was not used.",
        "None is needed; if the initial result should fit the frames, check it.",
    ),
    # --- preprocessing (preprocess) ---
    _warning(
        "dark-bright",
        "The dark frames are as bright as the reference frames, so their subtraction leaves no signal.",
        "Check which files were given as dark frames.",
    ),
    _warning(
        "dark-with-beam",
        "One of several dark frames was taken with beam. It is left out.",
        "Remove it from input.dark, and check that the others are dark.",
    ),
    _warning(
        "flat-without-beam",
        "One of several flat frames was taken without beam. It is left out.",
        "Remove it from input.flat, and check the others.",
    ),
    _warning(
        "dark-exposure-time",
        "The dark frames had another exposure time than the frames that they are subtracted from.",
        "Record dark frames of the same exposure time.",
    ),
    # --- input files (io) ---
    _warning(
        "beam-changed",
        "A monitor or the ring current shows that the beam changed between frames, and no step corrects it.",
        'Add the preprocessing step flux, with source = "monitor" or with bare beam in view.',
    ),
    _warning(
        "repeats-differ",
        "Frames that are averaged as repeats of a position differ by more than noise, or change from one to "
        "the next as projections do, or were taken at different angles.",
        "Check repeats, sample_axes and reference_axes in [input], and that nothing moved between repeats.",
    ),
    _warning(
        "projections-alike",
        "Projections come in equal groups that show the same, as repeats do that are not averaged.",
        "If they are repeats, state how many there are (repeats in [input]).",
    ),
    _note(
        "exposure-times-differ",
        "The files state different exposure times for reference and sample frames. The frames are scaled "
        "by them.",
        "None is needed.",
    ),
    _warning(
        "exposure-time-unknown",
        "The exposure time is stated for reference or sample frames, but not for both.",
        "Check that both exposure times are equal, or add the preprocessing step flux.",
    ),
    _warning(
        "saturated",
        "More than 1 % of the pixels are saturated. They are masked, but the brightest speckles are lost at "
        "these positions, and with them a part of the signal of all image channels.",
        "Record the frames with a shorter exposure time.",
    ),
    _note(
        "pixels-saturated",
        "Some pixels are saturated: they share the highest count of a frame. They are masked.",
        "None is needed; saturation of the step bad-pixels sets another limit.",
    ),
    _note(
        "pixels-marked",
        "Some pixels hold a mark of the detector instead of a count (65535, 2³² − 1, −1, −2). They are "
        "masked.",
        "None is needed.",
    ),
    _warning(
        "frames-inverted",
        "TIFF files state that 0 is white, and were read so. Some programs write this by mistake.",
        "If the values are counts, set the tag PhotometricInterpretation to 1 (MinIsBlack).",
    ),
    _note(
        "pixels-stuck",
        "Some pixels have the same count in all frames, although the speckles change. They are masked.",
        "None is needed.",
    ),
    # --- workflow: one projection and series (workflow) ---
    _note(
        "preview",
        "The image is a preview, made by a fast method from binned frames.",
        "Retrieve with full-field for quantitative images.",
    ),
    # --- volumes (tomography, workflow) ---
    _warning(
        "axis-tilted",
        "The rotation axis is tilted against the columns of the detector; volumes are blurred along it.",
        "Align the axis, or rotate the frames before retrieval.",
    ),
    _warning(
        "axis-uncertain",
        "The rotation centre was found with a standard error above half a pixel.",
        "Compare slices for several values of the option centre.",
    ),
    _warning(
        "cone-beam",
        "Volumes are reconstructed in cone-beam geometry on a GPU, without weights and without a prior. "
        "The developers had no GPU to test this.",
        "Compare the volume of a known object with what it should be.",
    ),
    _warning(
        "object-leaves-frame",
        "The object leaves the frame, so that volumes may have an offset.",
        "Give a box of air (option air), or record with a wider field.",
    ),
    _note(
        "projections-left-out",
        "Projections that were not retrieved, or have too few values, are left out of volumes.",
        "None is needed for a few projections; if there are many, correct the cause and retrieve them.",
    ),
    _warning(
        "scattering-lowered",
        "The prior on the dark-field was chosen for single projections and lowers the volume's scattering.",
        "Retrieve with the same, weaker regularisation for all projections: 10 over their number.",
    ),
    _warning(
        "tensor-undetermined",
        "Tensor projections have fewer than three tilts of the rotation axis, which determine the scattering "
        "along the axis, and only a part of the other components of the tensor.",
        "Record series with at least three tilts.",
    ),
    # --- simulation (simulate) ---
    _warning(
        "structure-resolved",
        "Simulated structure is not much finer than the speckles: part of its D appears as phase.",
        "Use a smaller correlation length, or compare with phase_total.",
    ),
    _warning(
        "structure-saturated",
        "Simulated structure is so fine that its blur saturates with distance: the dark-field is below D.",
        "Use a greater correlation length or a shorter distance.",
    ),
    # --- comparison and planning (evaluate) ---
    _warning(
        "scored-apart",
        "A method flags more than 20 % of the sample or of bare beam. In a comparison it is scored on the "
        "pixels that it does not flag itself, which are not those of the other methods.",
        "Give it more positions or a larger window, or do not compare its scores with the others.",
    ),
    _note(
        "resolution-unknown",
        "The resolution of a result in a comparison is not known.",
        "Compare more positions: the resolution needs twice as many as the method.",
    ),
    _note(
        "option-ignored",
        "A table [options] holds an option that the chosen method does not have, but another has.",
        "None is needed; to be explicit, put the option into the table [options.METHOD] of its method.",
    ),
    _warning(
        "pairing-doubtful",
        "Sample frames of the projection that was examined match references of other positions, or none.",
        "Check the order of the frames: their names, sample_axes, or position_key, which pairs by motors.",
    ),
    _warning(
        "frames-last",
        "The shape of a stack suggests frames along the last axis, but it is read as many narrow frames.",
        'State the axes in [input], as in sample_axes = "y,x,position".',
    ),
    _warning(
        "image-keys-mixed",
        "By its image_key a file holds frames of several kinds, and all of them are used for one role.",
        "Select the frames, as in file.nxs::/entry/data/data[image_key=0].",
    ),
    _warning(
        "projections-incomplete",
        "Some projections of a series lack frames and are not retrieved.",
        "Copy the frames that are missing and run the same command again.",
    ),
    _warning(
        "projection-failed",
        "A projection of a series could not be read or retrieved; it has no values.",
        "Correct what the message names and run the same command again.",
    ),
    _warning(
        "frames-removed",
        "The frames of a projection that was retrieved before are no longer there, or cannot be read; its "
        "result is kept.",
        "None is needed if the frames were moved on purpose; otherwise put them back.",
    ),
    _note(
        "repeats-unequal",
        "There are more reference frames at some positions of the diffuser than at others.",
        "None is needed: the frames of each position are averaged, and positions with fewer frames are "
        "noisier.",
    ),
    _warning(
        "projection-numbers",
        "The numbers in the file names do not show which projection is the first, or which are missing. "
        "The angles or the references depend on it.",
        "State the number of the first projection (series.first) or how many there are (series.expected).",
    ),
    _warning(
        "angles-unit",
        "The rotation angles have no unit, or an unknown one, and may be radians. They are taken as degrees.",
        "Write the unit into the file, or give the angles in degrees (series.angles).",
    ),
    _warning(
        "length-unusual",
        "A length of the experiment is unusually large or small. It may not be in metres.",
        "Give lengths in metres.",
    ),
    _warning(
        "geometry-differs",
        "The header of the frames states another geometry than the configuration.",
        "Check which of them is right.",
    ),
    _warning(
        "memory-short",
        "The retrieval may need more memory than this machine has.",
        "Crop or bin the frames, or use a larger machine.",
    ),
    _note(
        "truth-unused",
        "The file truth.h5 beside the configuration does not belong to the frames and was not used.",
        "None is needed; name the file by truth in [compare] if it should be used.",
    ),
)

_POWER: Final = re.compile(r"\b\d(?:\.\d+)?e\+0[1-5]\b")

FINDING_CODES: Final[Mapping[str, FindingCode]] = MappingProxyType({entry.code: entry for entry in _TABLE})


def percent(share: float) -> str:
    """Return a share for a message, in per cent with two digits.

    >>> percent(0.0123), percent(0.9999)
    ('1.2 %', '100 %')
    """
    value = 100.0 * share
    if 0.0 < value < 1e-3:
        return "less than 0.001 %"
    return f"{value:.0f} %" if value >= 99.5 else f"{value:.2g} %"


def finding(code: str, message: str) -> Finding:
    """Return a finding; its severity is that of the code. Numbers below a million are written out.

    >>> finding("preview", "5.9e+03 times").message
    '5900 times'
    """
    plain = _POWER.sub(lambda found: f"{float(found[0]):.0f}", message)
    return Finding(code, FINDING_CODES[code].severity, plain)


def warnings_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the warnings before the notes."""
    return sorted(findings, key=lambda record: record.severity != "warning")


def warnings_of(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings of severity "warning"."""
    return tuple(record for record in findings if record.severity == "warning")
