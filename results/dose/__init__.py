"""Which way of giving a dose keeps most trait at equal coherence: `make results-dose`.

`techniques` names what is compared, `cells` measures one technique at one dose and seed, `matched`
compares at equal coherence, `searches` and `selection` ask two questions beside it, `words` and
`figure` show what was found.
"""
