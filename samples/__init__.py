"""Dijet samples whose resolution, scale factor and response are known, exactly or from truth.

In the order events meet them: `streams` (one random stream per sample and chunk), `truth` (particle-level jets),
`toy` and `pythia` (where they come from), `durable` (chunks that survive a killed job), `response` (the detector),
`triggers` (prescales and acceptance), `skim`, `precision`, `counts`, `nanoaod` (the files), `description` (fileset and
what was put in), `writing` (all of these in a row), `progress`, `workers`, `generate` (the command), `errors`.

The layered detector: `processes` (what Pythia makes), `particles` (stable ones, pile-up), `layered_settings` (every
parameter with its source), `slabs` (material), `showers`, `cells` (towers and noise), `clusters`, `tracks`, `flow`
(tracks replace calorimeter energy), `reconstruction` (one crossing), `jets`, `jet_variables`, `absolute_calibration`
and `derive_calibration`, `leptons`, `hard_process`, `layered` (batches of events), `tables` (what travels),
`layered_chunks` (work for one process), `cross_section` (of what was generated), `pfnano` (branches),
`known_response` (what was done to jets, from truth), `layered_sample` (the files), `layered_generation` (the command),
`compiled` (options of the kernels).
"""
