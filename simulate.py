"""The command line of reduced_dynamics: ``python simulate.py --help``."""

import sys


def main() -> int:
    from reduced_dynamics.commands import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
