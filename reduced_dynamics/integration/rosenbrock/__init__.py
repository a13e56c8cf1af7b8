"""The project's own integrator: Rodas5P, compiled together with the system it integrates.

`tableau` holds the method's coefficients; `interface` says what a system offers; `step`,
`crossings` and `kernel` (one trajectory) and `lanes` (many at once in vector registers) are written
against that interface and become part of a generated module of every system (`build`).
"""
