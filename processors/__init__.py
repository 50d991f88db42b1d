"""Events in, histograms out; the only package that knows coffea, awkward and ROOT files.

In the order data meets them:

errors               what a mistake of the user and an unreadable file look like
settings_file        YAML and key=value -> frozen settings
fileset              fileset JSON or YAML -> datasets
formats              which branches hold what, in NanoAOD, PFNano, PHYSLITE, Delphes and flat ntuples
preflight            a look at every file before work begins, all faults at once
kept_files           ROOT files that stay readable from chunk to chunk
reading              a chunk of coffea's Runner -> one EventRecord
record               the one internal form of events and jets, and what must be true of it
correction_files     correctionlib files, opened once per process
event_filter         luminosity mask, pile-up weight, trigger decision
jet_quality          identification, veto maps, lepton cleaning, matching to truth jets
jet_calibration      existing corrections, calibration networks and smearing
jet_features         columns and constituents of jets as networks take them
side_by_side         the kinds of jets that are measured from the same events
binning              edges in GeV and |eta|, with the source of each choice
observables          the formulas: pt_avg, asymmetry, alpha, delta_phi
selection            the cuts that make a dijet event
compiled             the numba options every kernel shares
kernels              numba loops: one pass from flat arrays to histogram blocks
histograms           names and axes of every histogram, and how chunks are added
variations           the systematic variations, and what each changes
dijet                DijetProcessor: a chunk -> histograms
execution            coffea's Runner on one core, a pool, dask or parsl
worker_pool          processes of this machine, started once
warm_up              what the first of them loads and compiles, for all of them
chunk_store          finished chunks on disk, for resuming
progress             how far a run is, on a terminal or in a log
filling              datasets and settings -> filled histograms: checks, the run, what its result depends on
table_parts          tables made chunk by chunk, put together at the end
training_table       datasets and settings -> the table that a jet calibration is trained on
clustering           numba kernels: the kt algorithm on the constituents of a jet
trimming             constituents of large-R jets without those of soft subjets
substructure         numba kernels: constituents of large-R jets -> substructure variables
jet_images           the same -> images
truth_category       whether a jet holds a W or a top, by generated particles
large_jets           a record -> the large-R jets that count, with all that taggers need
tagger_table         datasets and settings -> the table that a tagger is trained on
tagging_variations   what variations of simulation do to large-R jets
tagging_histograms   names and axes of the histograms of pass and fail
tagging              TaggingProcessor: large-R jets -> scores -> histograms by truth, pass and fail
tagger_weights       scale factors of taggers in a file -> weights of events
histogram_files      histograms -> ROOT and UHI files, and back
output_folder        the folder a run writes into
code_identity        digest of the code and versions of the packages behind a result
self_check           whether this machine has what a run needs
"""
