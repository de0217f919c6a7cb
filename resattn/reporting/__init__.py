"""The results of a cross-check as a page of HTML."""
