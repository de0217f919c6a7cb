"""Models as people write them, without anything of ours: the sketch of the forum thread, three
times.
"""
