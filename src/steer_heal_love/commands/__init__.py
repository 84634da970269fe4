"""One file per command of `shl`: arguments, progress and words; no logic of the method."""
