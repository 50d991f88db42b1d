"""Histograms in, corrections out; knows no events.

In the order data meets them:

settings             how widths become resolutions, scale factors and responses
results              frozen records that travel between the files below: points, curves, checks, measurements
sample               datasets joined to samples, and their distributions with the default third-jet cut
comparison           which datasets are compared with which, per jet algorithm
stacks               the asymmetry distributions of one |eta| bin that are fitted together
template_fit         the likelihood of truth asymmetries widened by a Gaussian
resolution           a width per bin and the N, S, C curve of an |eta| bin
scale_factors        the scale factor of an |eta| bin, fitted to all bins of pt_avg together
bin_fits             both for every |eta| bin, reference region first
widths               single widths by several estimators with one signature, and the window of a core
exponential_gauss    the truth asymmetry as a smooth curve
truth_response       resolution and response from reco/truth
points               fits -> points, standard and forward resolutions combined
residual             residual response against the reference region
measurement          all of this for one jet algorithm: first pass, refined, measured again
alpha_extrapolation  widths against the cut on alpha, extrapolated to no third jet
bisector             bisector and MPFX: variances across and along the dijet axis
methods              resolutions and scale factors by these, beside the likelihood
matrix_residual      relative response from all pairs of |eta| bins
pair_points          residuals by that
noise                the noise term and its growth with rho
rho_dependence       the same from reco/truth, for the curve of every |eta| bin, and from asymmetries
smearing_uncertainty what the uncertainty of scale factors does to residuals
systematics          what each source of uncertainty does to scale factors and residuals
passes               the passes of a run: measured, with smeared simulation, with all corrections applied
coverage             what stands in for an |eta| bin that could not be measured
schema               pieces of correctionlib's schema
scale_factor_json    the scale factor in its layouts
correction_set       jet_jerc.json.gz
text_files           resolution and scale factor as text
table                resolution.csv
covariance           covariance.npz
known_answer         injected.json against what was measured
tagging              scale factors of taggers, in files of their own
promises             whether a correction file keeps what its form promises
"""
