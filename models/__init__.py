"""Arrays in, arrays out: neural networks stored as ONNX; knows no events and no histograms, never loads TensorFlow.

In the order data meets them:

features             names, order, units and dtype of the jet columns a network may use
card                 ModelCard: what a network takes and gives, as JSON beside the .onnx
session              OnnxModel: an ONNX file as a function of arrays, opened once per process
calibration          jet columns -> calibration factor
"""
