"""Several processes that carry one run out: the first leads and writes, the others follow."""
