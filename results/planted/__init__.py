"""What does each aggregate of the barrier see of a loop: `make results-planted`.

`planting` puts loops into texts, `texts` samples them, `students` heals on them behind each barrier
and asks what was learnt, `sight` reads how far a student is from the base model position by
position, `findings` compares, `words` and `figure` show what was found.
"""
