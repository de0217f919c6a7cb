"""Which axis of a parameter is divided over devices, where a model is too large for one."""

from weights.parameters import Parameter


def sharded_axis(parameter: Parameter, shards: int) -> str | None:
    """The name of the axis that is divided into equal parts, one for each device.

    That is the axis of the output channels if the number of devices divides it, else the longest
    axis that it divides, the first of several. None if there is none: then each device has the
    whole parameter.
    """
    sizes = dict(zip(parameter.axes.split(), parameter.shape, strict=True))
    fitting = {name: size for name, size in sizes.items() if size % shards == 0}
    if "out" in fitting:
        return "out"
    return max(fitting, key=lambda name: fitting[name], default=None)
