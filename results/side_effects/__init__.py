"""What else has changed in a healed model: `make results-side-effects`.

`subjects` finds the finished runs, `measure` asks their students and the base model the same
things, `findings` compares them over the seeds of a group, `words` and `figure` show it.
"""
