"""Taggers of large-R jets: columns, tables, networks applied to jets, how good they are; never loads TensorFlow.

In the order data meets them:

columns              names and units of what a tagger may take, truth categories
tagger_table         the table of jets that a tagger is trained on, as arrays and as a parquet file
tagger               jets -> score and working points, by a network and its card, or a foreign one by configuration
distance_correlation  weighted distance correlation of two variables and its gradient, in O(N log N)
metrics              efficiencies, rejections and 1/JSD with errors and statistical ceiling, in bins as well
bump                 the bump that a selection makes in a smooth spectrum
maps                 what takes a variable out of a score after training
comparison           taggers side by side on one table
"""
