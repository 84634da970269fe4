"""Studies that whole runs answer: sweeps are carried out, gathered into a file, and shown.

`gather` reads run directories into `records`; `conditions`, `chance` and `steering` compare them;
`tables`, `goals` and `figures` show them. None of these begins a run: `carry_out` does.
"""
