"""Page, diary, figures and summary of runs, built from their directories alone."""
