"""Questions about the method, each answered by one command: `python -m results NAME`.

`studies` lists them. The commands write tables and figures; the prose is written by hand.
"""
