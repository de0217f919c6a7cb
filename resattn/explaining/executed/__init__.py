"""What a live model of a user's own executes, in words: `weights.graph` is not asked for it.

entries.py      the steps, and the part of the model that each belongs to
failures.py     why a model could not be run to its end
words.py        the sentences, in English and in Chinese
listing.py      the text for a terminal
explanation.py  all of it together
"""
