"""The command line: every command parses, makes one call of the public API and reports it."""

from reduced_dynamics.commands.main import main

__all__ = ["main"]
