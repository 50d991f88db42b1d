"""Events in, histograms out; the only package that knows coffea, awkward and ROOT files.

In the order data meets them:

errors               what a mistake of the user and an unreadable file look like
compiled             the numba options every kernel shares
fileset              fileset JSON or YAML -> datasets
formats              which branches hold what, in NanoAOD, PFNano, PHYSLITE, Delphes and flat ntuples
preflight            a look at every file before work begins, all faults at once
kept_files           ROOT files that stay readable from chunk to chunk
reading              a chunk of coffea's Runner -> one EventRecord
record               the one internal form of events and jets, and what must be true of it
event_filter         luminosity mask, pile-up weight, trigger decision
jet_quality          identification, veto maps, lepton cleaning, matching to truth jets
jet_calibration      existing corrections and smearing from a jet_jerc JSON
binning              edges in GeV and |eta|, with the source of each choice
observables          the formulas: pt_avg, asymmetry, alpha, delta_phi
selection            jets -> dijets and the cutflow
kernels              numba loops: one pass from flat arrays to histogram blocks
histograms           names and axes of every histogram, and how chunks are added
dijet                DijetProcessor: a chunk -> histograms
histogram_files      histograms -> ROOT and UHI files, and back
chunk_store          finished chunks on disk, for resuming
execution            coffea's Runner on one core, a pool, dask or parsl
"""
