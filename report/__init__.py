"""Results in, figures and one page out; reads what a run left behind and changes nothing of it.

In the order results meet them:

settings             which style, which figures, which formats
run_settings         all settings of a run, each section from the module it sets
run_record           run.json: what ran, on what, and what came of it
run_log              what a run says while it works
measurement_file     the measurement as JSON, so that figures can be drawn again without the events
closure              numbers that figures and tables share: which method and region count, ratios, spread of methods
style                colours, fonts and header, the same for every figure
sheet                a page of many small panels, drawn with a handful of artists
figures              what shall be drawn, and what has been
asymmetry            asymmetry distributions with their fits
resolution           resolution, response and closure against pT
scale_factor         scale factor and residual response against |eta|
uncertainty          what the uncertainties are made of, source by source
side_by_side         methods over the published one, and their spread
before_after         resolution with a calibration network over that without
loop                 what is left after the corrections were applied
cutflow              events after each cut
spectrum             pt_avg in data and simulation
plots                which of these make the default set; drawing them, in parallel where wanted
tables               the numbers of the page in rows
verdict              complete, fitted, closed: what a reader wants to know first
page                 one self-contained report.html
tagger_factors       scale factors of taggers side by side, their uncertainties, and in other ranges of mass
tagger_fits          masses of jets between working points before and after the fit
tagger_measurement   the folder of a measurement of taggers
folder               an output folder -> figures and page, again
console              the summary at the end of a run
"""
