"""How generated functions are compiled, in source.

Counting references to arrays takes most of a small system's time, so functions that allocate
nothing are compiled without it. Every function says which: numba lets one that does not inherit it
from its caller. No one calls them from C, so none has a wrapper for that.
"""


def decorator(*, allocates: bool, inline: bool = False, fastmath: str = "") -> str:
    """The decorator of a generated function.

    Parameters
    ----------
    allocates : bool
        Whether it makes arrays, or calls for itself what does.
    inline : bool
        Whether its callers hold its code: for what is short, or called in one place.
    fastmath : str
        The liberties that its arithmetic may take, such as ``"'contract'"``.
    """
    options = ["cache=True", "nogil=True", "error_model='numpy'", f"_nrt={allocates}"]
    options += ["no_cfunc_wrapper=True"]
    options += ["forceinline=True"] if inline else []
    options += [f"fastmath={{{fastmath}}}"] if fastmath else []
    return f"@njit({', '.join(options)})"


def allocates(body: str) -> bool:
    """Whether a function's source makes arrays."""
    return "np." in body or ".copy(" in body


#: Of functions that may allocate; of those that do not; of those whose callers hold their code.
PLAIN = decorator(allocates=True)
LEAN = decorator(allocates=False)
INLINE = decorator(allocates=False, inline=True)
