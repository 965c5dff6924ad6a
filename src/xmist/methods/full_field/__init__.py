"""`full-field`: the whole transport equation, fitted to whole images.

The evolving Fokker–Planck equation of an attenuating sample, for D_ij = D δ_ij and T = 1 eq. (1) of Pavlov et
al. 2020, J. Opt. 22 125604, doi:10.1088/2040-8986/abc313,

    I_S = T I_R − (∆/k) ∇·(T I_R ∇φ) + ∆ Σ_ij ∂_i∂_j (D_ij T I_R)                                     (M)

is fitted to the frames of all positions at once: weighted least squares over the images φ, D and T with
quadratic priors, by Gauss–Newton on a finite model of which (M) is the first order. Each file is one step:

==================== ====================================================================================
`options`            options; which images are solved for
`plan`               `prepare`: references without noise; the plan: weights, `fit_images`, image channels
`border`             what lies beyond the border of the frames
`problem`            data, linear problem and result of a fit
`prior_strengths`    the priors, and how their strengths are chosen
`gauss_newton`       the solver of one level: outer iterations of linear solve and line search
`coarse_to_fine`     the loop over resolutions, around a solver that knows one level
`fit`                both, with what is known beforehand: an initial result, bare beam
`unregularised`      fits with no prior, or with a very weak one
`correct_parallax`   the sample's own fine pattern, which moves from position to position
`refit_dark_field`   the dark-field once more, with less weight where the model is in error
`edge_preserving`    priors on the dark-field that are not quadratic
`uncertainty`        standard deviations, from solves of perturbed data (drawn by `noise`)
`diagnostics`        maps and numbers that show how good a fit is
`findings`           what is reported of it, in words
==================== ====================================================================================

Unknowns are in pixel units, ψ = ∆φ/(k p²), d = ∆D/p² and ln T; frames in units of the mean reference.
"""

from xmist.methods.full_field.options import FullFieldOptions
from xmist.methods.full_field.plan import FullFieldPlan, prepare

OPTIONS = FullFieldOptions

__all__ = ["OPTIONS", "FullFieldOptions", "FullFieldPlan", "prepare"]
