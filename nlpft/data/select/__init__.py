"""Which rows a dataset takes, and into which split: weights, duplicates, benchmark items. Content decides, never a row's place.

Workers compute what belongs to a row (`keys.content_key`, `duplicates.signatures`, `contamination.overlaps`); one process sees
all of them and decides (`duplicates.find`); `splits.split_of` and `splits.copies` need a row's key only.
"""
