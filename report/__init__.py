"""Results in, figures and one page out; reads what a run left behind and changes nothing of it.

In the order results meet them:

settings             which style, which figures, which formats
measurement_file     the measurement as JSON, so that figures can be drawn again without the events
style                colours, fonts, header and pages of panels, the same for every figure
figures              what shall be drawn, and what has been
asymmetry            asymmetry distributions with their fits
resolution           resolution against pT, response against pT, closure against truth
scale_factor         scale factor and residual response against |eta|
cutflow              events after each cut
spectrum             pt_avg in data and simulation
plots                which of these make the default set; drawing them, in parallel where wanted
tables               the numbers of the page in rows
page                 one self-contained report.html
folder               an output folder -> figures and page, again
"""
