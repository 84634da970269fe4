"""Studies that whole runs answer: carried out, gathered, compared, shown."""
