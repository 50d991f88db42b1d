"""Histograms in, corrections out; knows no events.

In the order data meets the files: `sample` (datasets joined and sliced), `stacks` (distributions fitted together),
`template_fit` (the likelihood), `widths` and `truth_response` (single widths), `resolution` (N, S, C curves),
`scale_factors`, `residual`, `measurement` (all of it for one jet algorithm), `results` (what travels), `coverage`,
`correction_set` (correctionlib JSON), `text_files` and `table` (the same as text).
"""
