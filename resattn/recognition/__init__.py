"""Recognising a model of anybody's as one of our blocks or networks.

    recognition.py        recognise_model: what a read model is, or what it differs in
    proof.py              prove_recognition: the model's output against the oracle's

How it is found, without names:

    nodes.py              the steps of a graph by what they compute and their sizes alone
    structure.py          the trunk of a graph, its residual blocks, their paths
    block_fields.py       the config of a block, read off its parts
    network_fields.py     the config of a network
    attention_search.py   the attention kind and its options
    drawings.py           our configs as graphs of nodes, to compare with
    keys.py               equal graphs, and which node of one is which of the other
    mapping.py            from nodes to parameters, arrays and stages

How it is said:

    deviations.py         differences from the nearest config, as data
    wording.py            sentences, from words_en.py and words_zh.py
"""
