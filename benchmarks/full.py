"""Speed of the full disentangled transformer on one core, BLAS threads pinned.

    python benchmarks/full.py [--t-end 20]

Steps per second, the share of them spent sampling inputs, and how much longer the full model takes
than the reduced integration of the same trajectory (compiled equations, the second of two runs).
"""

import argparse
import os

# Before numpy is imported: BLAS reads these once.
PINNED = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
os.environ.update(dict.fromkeys(PINNED, "1"))

import platform

import numpy as np

from reduced_dynamics import catalogue
from reduced_dynamics.families.musat.full.disentangled_training import TrainingConfig, train
from reduced_dynamics.integration.one import integrate

#: (N, D, batch)
SIZES = ((4, 16, 256), (8, 32, 256))


def measure(N: int, D: int, batch: int, t_end: float) -> dict[str, float]:
    """Rates and seconds of one size, up to the reduced time `t_end`, at learning rate 1."""
    config = TrainingConfig(N=N, D=D, batch=batch, t_end=t_end)
    train(TrainingConfig(N=N, D=D, batch=batch, steps=20))  # compiles the sampler
    full = train(config)[0].stats
    system, parameters = catalogue.system("musat19"), {"N": N, "D": D}
    integrate(system, parameters, t_end=t_end)
    reduced = integrate(system, parameters, t_end=t_end).stats["wall_s"]
    return full | {"reduced_s": reduced, "ratio": full["wall_s"] / reduced}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--t-end", type=float, default=20.0, help="reduced training time (20)")
    t_end = parser.parse_args().t_end
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"{platform.machine()}, one core, numpy {np.__version__}, t = {t_end:g}, learning rate 1")
    print(", ".join(f"{name}={os.environ[name]}" for name in PINNED))
    print(
        f"{'N':>3} {'D':>4} {'batch':>6} {'steps':>6} {'steps/s':>8} {'sampling':>9} "
        f"{'full':>9} {'reduced':>11} {'ratio':>8}"
    )
    for size in SIZES:
        found = measure(*size, t_end)
        print(
            f"{size[0]:3d} {size[1]:4d} {size[2]:6d} {found['steps']:6d} "
            f"{found['steps_per_s']:8.0f} {found['sampling_share']:8.1%} "
            f"{found['wall_s']:7.2f} s {1e3 * found['reduced_s']:8.1f} ms {found['ratio']:8.0f}"
        )


if __name__ == "__main__":
    main()
