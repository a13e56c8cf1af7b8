"""The command line: every command parses, makes one call of the public API and reports it."""
