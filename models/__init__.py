"""Arrays in, arrays out: neural networks stored as ONNX; knows no events and no histograms, never loads TensorFlow.

In the order data meets them:

features             names, order, units and dtype of the columns a network may use, of jets and of constituents
parquet              parquet files in parts, with facts in their metadata
event_table          the training table: whole events as arrays, and as a parquet file
flat_weights         bounded weights that make a falling spectrum flat
card                 ModelCard: what a network takes and gives, as JSON beside the .onnx
shipped              networks that come with the package, by name
session              OnnxModel: an ONNX file as a function of arrays, opened once per process
calibration          jet columns and constituents -> calibration factor
compiled             the options every numba kernel shares
evaluation           how good calibrated jets are: response, resolution, closure, in-situ gain, pulls
tagging              taggers of large-R jets and how good they are, a package of its own
training             everything that needs TensorFlow, a package of its own
"""
