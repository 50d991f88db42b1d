"""Training of networks, the only package that loads TensorFlow, and that only where a function needs it.

In the order data meets them:

errors               what a mistake of the user looks like
checkpoint           where a training is, as a file
settings             what may be set, frozen
samples              training table -> flat jets of events, folds and batches
preprocessing        standardised columns and angles relative to the jet axis, inside the network
network              deep sets or small networks per |eta|, and their heads
losses               likelihood, asymmetry and constraint of a batch
loop                 epochs, early stopping, checkpoints, resuming
closure              what makes the mean response 1 and the width right, fitted after training
sequential           the global-sequential correction, a baseline without a network
graph                a function of tensors -> ONNX
export               network and closure -> ONNX and its card
assessment           metrics, tables and plots of a trained calibration
pipeline             tables -> a calibration in a folder, and the study of many trainings
quiet                silence for libraries that write whatever they are told
command              what `analysis.py train calibration` calls: checks, progress, words
tagging              jet taggers, a package of its own
"""
