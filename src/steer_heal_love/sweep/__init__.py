"""Many runs from one file: one after the other, on a Ray cluster, or in search of good settings.

`file` reads the file into trials, `settings` are its own keys, `naming` names the trials. A `trial`
is an ordinary run directory; how one is carried out is handed in. `serial`, `on_ray` and `search`
carry out many; `ledger` keeps what came of each, `table` shows it, `ending` sets the runs beside
one another.
"""
