"""Questions that whole runs answer: a sweep file each, `python -m results.runs NAME`.

`gather` reads what the pages need out of the run directories, `records` is that as a small JSON
file; `chance`, `conditions` and `steering` reckon with it. Each question has a module for its
words. `questions` lists them all.
"""
