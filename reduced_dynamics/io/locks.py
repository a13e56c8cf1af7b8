"""Locks between processes, which end with the process that holds them."""


def locked(descriptor: int, wait: bool = False) -> bool:
    """Lock an open file or directory for this process alone; False where there are no locks.

    Parameters
    ----------
    descriptor : int
        Of the open file.
    wait : bool
        Whether to wait for the end of another process's lock.

    Raises
    ------
    BlockingIOError
        If another process holds the lock, and this one does not wait.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        return False
    return True
