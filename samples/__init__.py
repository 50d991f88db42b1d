"""Dijet samples whose resolution, scale factor and response are known exactly.

In the order events meet them: `streams` (one random stream per sample and chunk), `truth` (particle-level jets),
`toy` and `pythia` (where they come from), `durable` (chunks that survive a killed job), `response` (the detector),
`triggers` (prescales and acceptance), `skim`, `precision`, `counts`, `nanoaod` (the files), `description` (fileset and
what was put in), `writing` (all of these in a row), `progress`, `workers`, `generate` (the command), `errors`.
"""
