"""Files of labelled texts and tagged words -> tokenized tables for heads, with every row accounted for.

files -inputs, readers-> Example | Rejection -stratify, leaks-> splits -labels, tags-> targets
    -encode, align-> ids -prove, table-> dataset
"""
