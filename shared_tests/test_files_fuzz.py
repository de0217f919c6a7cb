"""Weights files cut off at every byte, and with one bit of every byte changed, in every format.

Whatever comes, it is one error of ours that names the file, or exactly what was written.
"""

from __future__ import annotations

import struct

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from resattn.checking.draws import random_arrays
from shared_tests.files_cases import FUZZED, SMALL
from weights import read_checkpoint, write
from weights.errors import ResattnError
from weights.files.npy import read_npy

ORIGIN = {"file": "a.pth"}
CHANGE = st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=8))


def outcome(path, config=None):
    """What a file holds. None if it is refused, with an error that can be shown."""
    try:
        return read_checkpoint(path, config)
    except ResattnError as error:
        message = str(error)
    lines = message.splitlines()
    assert path.name in lines[0], lines
    assert all(line.isprintable() for line in lines), lines
    assert len(message) < 10_000, lines
    return None


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """The bytes of each file, and the path under which they are damaged."""
    folder = tmp_path_factory.mktemp("fuzz")
    found = {}
    for name in FUZZED:
        write(folder / name, SMALL, random_arrays(SMALL), origin=ORIGIN)
        found[name] = (folder / name, (folder / name).read_bytes())
    return found


@pytest.mark.parametrize("name", FUZZED)
def test_cut_off_at_every_byte(wholes, name):
    path, whole = wholes[name]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert outcome(path) is None, f"the first {length} bytes of {len(whole)} were accepted"
    path.write_bytes(whole)
    assert outcome(path) is not None


@pytest.mark.parametrize("name", FUZZED)
def test_a_bit_of_every_byte(wholes, name):
    """Bits that no reader looks at, such as the time in a zip archive, change nothing."""
    path, whole = wholes[name]
    arrays = random_arrays(SMALL)
    unread = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        found = outcome(path)
        if found is not None:
            unread += 1
            assert found.config == SMALL, place
            assert all(found.arrays[key].tobytes() == arrays[key].tobytes() for key in arrays)
            assert found.origin == ORIGIN, place
    assert unread < len(whole) / 2
    path.write_bytes(whole)


@pytest.mark.parametrize("name", FUZZED)
@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
@given(changes=st.lists(CHANGE, min_size=1, max_size=4))
def test_bytes_changed_at_random(wholes, name, changes):
    """Several bytes at once."""
    path, whole = wholes[name]
    damaged = bytearray(whole)
    for place, piece in changes:
        start = place % len(whole)
        damaged[start : start + len(piece)] = piece
    path.write_bytes(damaged)
    outcome(path)
    path.write_bytes(whole)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(head=st.text(max_size=80), values=st.binary(max_size=40), is_header=st.booleans())
def test_headers_of_numpy(tmp_path, head, values, is_header):
    path = tmp_path / "x.npy"
    text = head if not is_header else f"{{'descr': '<f4', 'fortran_order': False, 'shape': {head}}}"
    encoded = text.encode("latin1", "replace") + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(encoded)) + encoded + values
    path.write_bytes(content)
    try:
        message = f"x.npy: {read_npy(path)}"
    except ResattnError as error:
        message = str(error)
    assert message.startswith("x.npy: ")
