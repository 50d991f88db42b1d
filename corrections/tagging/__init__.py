"""Histograms of pass and fail in, scale factors of taggers out.

In the order data meets them:

settings     how histograms become scale factors
counts       the histogram of a tagging run as arrays, normalised
templates    mass templates of jets between working points by category, in bins that are no longer hopeless
samples      the model: what passes scales, what fails makes up for it, sources of uncertainty
workspace    the same as JSON for pyhf
cross_check  the same likelihood in plain numpy, with its derivatives and Minuit
fit          from there to the minimum of pyhf: scale factors, and what their uncertainty is made of
results      frozen records: points, and estimates that have a covariance
points       fits -> points with their uncertainty by source
mistag       dijets -> scale factors of mistags
covariance   of all of these
efficiency   efficiencies of simulation in maps
tagger_json  tagger_sf.json.gz
known_answer data with a known answer, and pulls
closure      measured again after the weights were applied
windows      the same in other ranges of mass
measurement  all of this for the folders of tagging runs
tables       CSV files and workspaces
"""
