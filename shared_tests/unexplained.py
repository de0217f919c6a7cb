"""Plants that the trace leaves unexplained, by reason: the name of each and its scopes.

`test_trace_plants.py` fails when one of them becomes explained.
"""

UNEXPLAINED: dict[str, dict[str, tuple[str, ...]]] = {}
