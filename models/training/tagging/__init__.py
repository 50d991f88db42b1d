"""Training of jet taggers whose score knows nothing of a protected variable, such as the mass.

In the order data meets them:

settings             what may be set, frozen
samples              any parquet table -> jets, folds, weights, and notes on what was left out
networks             standardised columns and the dense network; what every network of a tagger offers
penalties            none, DisCo, MoDe, soft JSD, adversaries, domain: behind one interface
loop                 steps, strength of the penalty, checkpoints, collapse
posthoc              maps after training, as part of the graph
export               network -> ONNX, card, and the side-car of CMS
assessment           metrics and plots on jets held out
pipeline             tables -> a tagger in a folder, and the scan of strengths
command              what `analysis.py train tagger` calls: checks, progress, words
compare              what `analysis.py compare taggers` calls
"""
