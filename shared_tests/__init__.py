"""The cross-check between the implementations, and the tests."""

from shared_tests.crosscheck import crosscheck

__all__ = ["crosscheck"]
