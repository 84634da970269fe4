"""Questions about the method, each answered by one command that measures and shows the numbers.

`studies` lists them: what is measured, which tables stand in docs/RESULTS.md between markers, which
figures beside it. The prose there is written by hand. `python -m results NAME` answers one.
"""
