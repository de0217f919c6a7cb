"""Names of operations."""


def plain_name(name: str) -> str:
    """A name without the number of a second use: "relu" of "relu 2"."""
    head, _, number = name.rpartition(" ")
    return head if number.isdigit() else name


def name_within(name: str, scope: str) -> str:
    """A plain name, from the module at a path. The module's own output is ""."""
    return plain_name(name).removeprefix(scope).lstrip(".")
