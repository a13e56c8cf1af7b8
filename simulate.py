"""The command line of reduced_dynamics: ``python simulate.py --help``."""

import sys


def main() -> int:
    try:
        from reduced_dynamics.commands.main import main as run
    except KeyboardInterrupt:
        return 130
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
