"""Taggers of large-R jets: their columns and tables, and networks applied to jets; never loads TensorFlow.

In the order data meets them:

columns              names and units of what a tagger may take, truth categories
tagger_table         the table of jets that a tagger is trained on, as arrays and as a parquet file
tagger               jets -> score and working points, by a network and its card, or a foreign one by configuration
"""
