"""Ctrl-C at a moment that a test chooses."""


def before(step):
    """A progress that is interrupted when a training reports this step."""

    def interrupt(what, share):
        if what.startswith(f"step {step} of "):
            raise KeyboardInterrupt

    return interrupt
