"""Where results go: the ending decides the format, and a half-written file never has the name."""

import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress

from reduced_dynamics.core.errors import InputError, unknown

#: Files that were being written when a process died end in this.
PARTIAL = ".partial"


def ending(path, known: Iterable[str]) -> str:
    """The ending of `path`, in lower case.

    Parameters
    ----------
    path : str or os.PathLike
    known : iterable of str
        The endings that have a meaning here, each with its dot.

    Raises
    ------
    InputError
        If the path has no ending or one that is not `known`; the nearest is named.
    """
    known = list(known)
    found = os.path.splitext(os.fspath(path))[1].lower()
    if not found:
        raise InputError(
            f"'{os.fspath(path)}' has no file ending, which decides the format; "
            f"end it in one of {', '.join(known)}"
        )
    if found not in known:
        raise unknown("file ending", found, known)
    return found


def check_target(path, known: Iterable[str]) -> None:
    """Make sure that `write` to `path` will work, before hours are spent on what to write.

    Parameters
    ----------
    path : str or os.PathLike
        The file that will be written. One that exists already will be replaced.
    known : iterable of str
        The endings that have a meaning here, each with its dot.

    Raises
    ------
    InputError
        If the ending is unknown, the directory is missing or cannot be written to, or the path
        is a directory, a device or write-protected.
    """
    ending(path, known)
    path = os.fspath(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the name
        raise _cannot("write", path, error) from None
    else:
        if stat.S_ISDIR(mode):
            raise InputError(f"'{path}' is a directory; name a file inside it")
        if not stat.S_ISREG(mode):
            raise InputError(f"'{path}' is not a regular file; name another file")
        if not os.access(path, os.W_OK):
            raise InputError(
                f"'{path}' exists and is write-protected; name another file or make it writable"
            )
    directory = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(directory):
        raise InputError(
            f"cannot write '{path}' because its directory does not exist; "
            f"create it with: mkdir -p {os.path.dirname(path) or directory}"
        )
    # Trying is the only honest answer: permission bits mean nothing to root or on a file system
    # that is mounted read-only.
    try:
        file, temporary = _create(directory)
        file.close()
        os.unlink(temporary)
    except OSError as error:
        raise _cannot("write", path, error) from None


def write(path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all.

    A symbolic link stays a link, and the file it points to is replaced.

    Parameters
    ----------
    path : str or os.PathLike
    content : bytes-like

    Raises
    ------
    InputError
        If the operating system refuses, e.g. on a full disk.
    """
    try:
        put(os.path.realpath(path), content)
    except OSError as error:
        raise _cannot("write", path, error) from None


def put(path, content: bytes) -> None:
    """Write `content` to `path`, whole and on the disk, or not at all; links are not followed.

    The bytes go to a temporary file in the same directory, reach the disk, and only then take
    the name; whatever bore it before stays untouched until that moment.

    Raises
    ------
    OSError
        If the operating system refuses, e.g. on a full disk.
    """
    directory = os.path.dirname(path)
    file, temporary = _create(directory)
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(directory)


def read(path) -> bytes:
    """The content of the file at `path`.

    Raises
    ------
    InputError
        If there is no such file or it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise InputError(f"there is no file '{os.fspath(path)}'; check its name") from None
    except (OSError, ValueError) as error:
        raise _cannot("read", path, error) from None


def sync_directory(path) -> None:
    """Let the names in a directory reach the disk, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _create(directory):
    """A new file in `directory` and its name: (binary file open for writing, str)."""
    # Opened by hand, for `tempfile` would make it private to its owner (0600) and so the result;
    # the name is short and new, since the target's may already be as long as names can be.
    name = os.path.join(directory, f".{secrets.token_hex(8)}{PARTIAL}")
    return open(name, "xb"), name


def _cannot(verb: str, path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    remedy = {
        "write": "choose another place or make room and permission there",
        "read": "check its name and its permissions",
    }[verb]
    return InputError(f"cannot {verb} '{os.fspath(path)}' ({reason.lower()}); {remedy}")
