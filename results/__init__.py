"""Questions about the method, each answered by one command that measures and writes its page.

`store` keeps what has been measured, so that an interrupted command goes on; `page` writes an
answer between its two markers in docs/RESULTS.md. A question is a folder beside them.
"""
